//! A PKCS#10 request, as far as the signers judge it.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509CertificationRequest};

/// Subject and alternative names of a request.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Request {
    pub der: Vec<u8>,
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns: Vec<String>,
    pub ips: Vec<IpAddr>,
    pub emails: usize,
    pub uris: usize,
    /// names of any other kind, and addresses that are none
    pub others: usize,
}

impl Request {
    /// Reads PEM and checks that the requester holds the key.
    pub fn parse(pem: &[u8]) -> Result<Self> {
        let (_, block) = x509_parser::pem::parse_x509_pem(pem).context("request is not PEM")?;
        ensure!(block.label.ends_with("CERTIFICATE REQUEST"), "PEM block is a {}", block.label);
        let (_, csr) =
            X509CertificationRequest::from_der(&block.contents).context("request is not PKCS#10")?;
        let subject = &csr.certification_request_info.subject;
        let text =
            |a: &x509_parser::x509::AttributeTypeAndValue<'_>| a.as_str().unwrap_or_default().to_string();
        let mut request = Self {
            common_name: subject.iter_common_name().next().map(text).unwrap_or_default(),
            organizations: subject.iter_organization().map(text).collect(),
            ..Self::default()
        };
        for extension in csr.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension {
                names.general_names.iter().for_each(|n| request.count(n));
            }
        }
        request.der = block.contents;
        Ok(request)
    }

    fn count(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(name) => self.dns.push((*name).into()),
            GeneralName::IPAddress(bytes) => match address(bytes) {
                Some(ip) => self.ips.push(ip),
                None => self.others += 1,
            },
            GeneralName::RFC822Name(_) => self.emails += 1,
            GeneralName::URI(_) => self.uris += 1,
            _ => self.others += 1,
        }
    }

    fn is_node(&self) -> Result<(), &'static str> {
        if self.organizations != ["system:nodes"] {
            return Err("subject organization is not system:nodes");
        }
        if !self.common_name.starts_with("system:node:") {
            return Err("subject common name does not begin with system:node: ");
        }
        Ok(())
    }

    /// Whether it is a request for a kubelet's client certificate.
    pub fn is_kubelet_client(&self, usages: &[String]) -> Result<(), &'static str> {
        self.is_node()?;
        match (self.dns.len(), self.ips.len(), self.emails, self.uris) {
            (0, 0, 0, 0) => {}
            (1.., ..) => return Err("DNS subjectAltNames are not allowed"),
            (_, 1.., ..) => return Err("IP subjectAltNames are not allowed"),
            (_, _, 1.., _) => return Err("Email subjectAltNames are not allowed"),
            _ => return Err("URI subjectAltNames are not allowed"),
        }
        only(usages, &["digital signature", "client auth"], &["key encipherment"])
    }

    /// Whether it is a request for a kubelet's serving certificate.
    pub fn is_kubelet_serving(&self, usages: &[String]) -> Result<(), &'static str> {
        self.is_node()?;
        if self.dns.is_empty() && self.ips.is_empty() {
            return Err("DNS or IP subjectAltName is required");
        }
        if self.emails > 0 {
            return Err("Email subjectAltNames are not allowed");
        }
        if self.uris > 0 {
            return Err("URI subjectAltNames are not allowed");
        }
        only(usages, &["digital signature", "server auth"], &["key encipherment"])
    }

    /// Whether it is a request for a client of the API server.
    pub fn is_client(&self, usages: &[String]) -> Result<(), &'static str> {
        only(usages, &["client auth"], &["digital signature", "key encipherment"])
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    four.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}

fn only(usages: &[String], required: &[&str], optional: &[&str]) -> Result<(), &'static str> {
    let has = |u: &&str| usages.iter().any(|x| x == u);
    let known = |u: &String| required.contains(&u.as_str()) || optional.contains(&u.as_str());
    if required.iter().all(has) && usages.iter().all(known) {
        return Ok(());
    }
    Err("usages did not match the signer's")
}

/// The end of the first certificate in a PEM text.
pub fn not_after(pem: &[u8]) -> Option<Timestamp> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&block.contents).ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A request in PEM for a subject and DNS names.
    pub fn pem(common_name: &str, organizations: &[&str], dns: &[&str]) -> String {
        let names: Vec<String> = dns.iter().map(|d| d.to_string()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, common_name);
        for organization in organizations {
            params.distinguished_name.push(rcgen::DnType::OrganizationName, *organization);
        }
        params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap().pem().unwrap()
    }

    fn usages(list: &[&str]) -> Vec<String> {
        list.iter().map(|u| u.to_string()).collect()
    }

    #[test]
    fn kubelets_are_recognised_by_subject_names_and_usages() {
        let client = Request::parse(pem("system:node:a", &["system:nodes"], &[]).as_bytes()).unwrap();
        let good = usages(&["digital signature", "client auth"]);
        assert_eq!(client.is_kubelet_client(&good), Ok(()));
        assert!(client.is_kubelet_client(&usages(&["client auth"])).is_err());
        assert!(
            client.is_kubelet_client(&usages(&["digital signature", "client auth", "server auth"])).is_err()
        );
        assert!(client.is_kubelet_serving(&usages(&["digital signature", "server auth"])).is_err());
        let serving =
            Request::parse(pem("system:node:a", &["system:nodes"], &["a.example"]).as_bytes()).unwrap();
        assert_eq!(
            serving.is_kubelet_serving(&usages(&["digital signature", "server auth", "key encipherment"])),
            Ok(())
        );
        assert!(serving.is_kubelet_client(&good).is_err());
        let admin = Request::parse(pem("admin", &["system:masters"], &[]).as_bytes()).unwrap();
        assert!(admin.is_kubelet_client(&good).is_err());
        assert!(Request::parse(b"rubbish").is_err());
    }
}
