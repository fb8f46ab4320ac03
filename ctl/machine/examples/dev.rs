use anyhow::Result;
use coxctl_machine::*;
use std::path::Path;
use std::time::Duration;
fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args[0] == "supervise" {
        #[derive(clap::Parser)]
        enum Cli {
            Supervise(supervisor::Supervise),
        }
        use clap::Parser;
        let Cli::Supervise(a) = Cli::parse();
        supervisor::supervise(a)?;
        return Ok(());
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(args))
}
async fn run(args: Vec<String>) -> Result<()> {
    let s =
        services(&Options { bin_dir: std::env::var_os("BIN_DIR").map(Into::into), ..Default::default() })?;
    println!("kind {}", s.kind());
    let socket = "unix:///run/containerd/containerd.sock";
    match args[0].as_str() {
        "preflight" => {
            let made = Made::read()?;
            for command in [preflight::Command::Init, preflight::Command::JoinWorker] {
                let w = preflight::Wanted {
                    command,
                    node_name: "node-1".into(),
                    bind_port: 6443,
                    server: "172.30.0.1".into(),
                    service_subnets: vec!["10.96.0.0/16".into()],
                    pod_subnets: vec!["10.244.0.0/16".into()],
                    etcd_data_dir: Some("/var/lib/etcd".into()),
                    cri_socket: socket.into(),
                    kubernetes_version: "v1.36.2".into(),
                    ca_cert_path: "/etc/kubernetes/pki/ca.crt".into(),
                    programs: vec!["kubelet".into(), "etcd".into(), "coxswain-balancer".into()],
                    images: args[1..].to_vec(),
                    ..Default::default()
                };
                let t = std::time::Instant::now();
                let checks = preflight::run(&w, &made, s.as_ref()).await;
                println!("{command:?} {:?}", t.elapsed());
                if let Err(e) = preflight::report(&checks, &[]) {
                    println!("{e}");
                }
            }
        }
        "cri" => {
            println!(
                "{:?} {:?} {:?}",
                cri::version(socket).await,
                cri::ready(socket).await,
                cri::cgroup_driver(socket).await
            );
            let c = cri::configuration(socket).await?;
            println!("{} {} {}", cri::sandbox_image(&c), cri::wants_systemd_cgroups(&c), c.len());
            println!("{:?}", cri::image_id(socket, "coxswain.local/pause:1").await?);
        }
        "up" => {
            let mut made = Made::open()?;
            made.begin("init", "x")?;
            for (name, _) in services::UNITS {
                if name == "coxswain-etcd" {
                    continue;
                }
                let program = if name == "coxswain-certs" { "coxctl" } else { name };
                let d = Daemon {
                    name: name.into(),
                    program: program.into(),
                    args: args[1..].to_vec(),
                    ..Default::default()
                };
                println!("{name} {:?} {:?}", install(s.as_ref(), &mut made, &d), s.start(name));
            }
            let d = Daemon {
                name: "coxswain-etcd".into(),
                program: "etcd".into(),
                args: vec![
                    "--data-dir=/var/lib/etcd".into(),
                    "--listen-metrics-urls=http://127.0.0.1:2381".into(),
                ],
                ..Default::default()
            };
            made.contents(Path::new("/var/lib/etcd"))?;
            install(s.as_ref(), &mut made, &d)?;
            s.start("coxswain-etcd")?;
            let t = std::time::Instant::now();
            let check =
                async || std::net::TcpStream::connect("127.0.0.1:2381").map(|_| ()).map_err(Into::into);
            healthy(s.as_ref(), "coxswain-etcd", check, Duration::from_secs(60)).await?;
            println!("etcd healthy after {:?} {:?}", t.elapsed(), s.state("coxswain-etcd"));
            made.finish()?;
        }
        "bad" => {
            let mut made = Made::open()?;
            let d = Daemon {
                name: "coxswain-etcd".into(),
                program: "etcd".into(),
                args: args[1..].to_vec(),
                ..Default::default()
            };
            println!("{:?}", install(s.as_ref(), &mut made, &d)?);
            s.restart("coxswain-etcd")?;
            let t = std::time::Instant::now();
            let r = healthy(
                s.as_ref(),
                "coxswain-etcd",
                async || anyhow::bail!("refused"),
                Duration::from_secs(240),
            )
            .await;
            println!("after {:?}: {:#}", t.elapsed(), r.unwrap_err());
        }
        "reset" => {
            let mut made = Made::open()?;
            let t = std::time::Instant::now();
            println!("{:#?}", made.undo_units(s.as_ref())?);
            println!(
                "{:?} {:#?}",
                t.elapsed(),
                clean::all(&clean::Wanted { cri_socket: socket.into(), unmount_flags: vec![] }).await
            );
            println!("{:#?} {:?}", made.undo(s.as_ref())?, t.elapsed());
        }
        "pack" => {
            let t = std::time::Instant::now();
            bundle::run(bundle::BundleCommand::Create {
                bin_dir: "/tmp/bins-machine".into(),
                images: Some("/tmp/lab-images".into()),
                version: None,
                kubernetes_version: "v1.36.2".into(),
                out: "/tmp/bins-machine/bundle.tar.gz".into(),
            })
            .await?;
            println!("{:?}", t.elapsed());
        }
        "unpack" => {
            let t = std::time::Instant::now();
            let b = bundle::open(Path::new(&args[1]))?;
            println!("opened {:?}", t.elapsed());
            let mut made = Made::open()?;
            println!("{:?}", bundle::install(&b, &mut made)?);
            println!("installed {:?}", t.elapsed());
            println!("{:?} {:?}", bundle::switch(&b.index.version, &mut made)?, bundle::current());
            println!("{:?}", bundle::import_images(&b, socket).await);
            println!("{:?} imported {:?}", bundle::import_images(&b, socket).await, t.elapsed());
        }
        "state" => {
            for (n, _) in services::UNITS {
                println!("{n}: {:?} {}", s.state(n)?, s.endings(n));
            }
        }
        _ => {}
    }
    Ok(())
}
