//! The command that lets a machine join.

/// What it is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinLine {
    /// `HOST:PORT` of the control plane.
    pub endpoint: String,
    /// The bootstrap token.
    pub token: String,
    /// Pins of the authority, `sha256:…`.
    pub hashes: Vec<String>,
    /// For control planes: the key of the uploaded certificates.
    pub certificate_key: Option<String>,
}

impl JoinLine {
    /// In one line.
    pub fn line(&self) -> String {
        self.parts().join(" ")
    }

    /// In several lines, as `init` shows it.
    pub fn wrapped(&self, control_plane: bool) -> String {
        let parts =
            if control_plane { self.parts() } else { Self { certificate_key: None, ..self.clone() }.parts() };
        format!("  {}", parts.join(" \\\n\t"))
    }

    fn parts(&self) -> Vec<String> {
        let mut parts = vec![format!("coxctl join {} --token {}", self.endpoint, self.token)];
        let pins: Vec<String> =
            self.hashes.iter().map(|h| format!("--discovery-token-ca-cert-hash {h}")).collect();
        parts.push(pins.join(" "));
        if let Some(key) = &self.certificate_key {
            parts.push(format!("--control-plane --certificate-key {key}"));
        }
        parts
    }
}
