//! A small HTTP server for trying Services: answers every request with who answered, who asked, what was asked, and the text
//! of `GREETING` (the text itself, or `@` and the path of a file that holds it). `/healthz` answers ok.
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::{env, fs, thread};

unsafe extern "C" {
    fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
    fn _exit(code: i32) -> !;
}

/// A container's process 1 has no default action for SIGTERM; without a handler it would live out its grace period.
extern "C" fn leave(_signal: i32) {
    // SAFETY: _exit may be called from a signal handler.
    unsafe { _exit(0) }
}

fn main() {
    const SIGTERM: i32 = 15;
    // SAFETY: the handler only ends the process.
    unsafe { signal(SIGTERM, leave) };
    let port = env::args().nth(1).or_else(|| env::var("PORT").ok()).unwrap_or_else(|| "8080".into());
    let listener = TcpListener::bind(format!("[::]:{port}")).unwrap_or_else(|error| {
        eprintln!("echo: port {port}: {error}");
        std::process::exit(1)
    });
    println!("echo: listening on {port}");
    for stream in listener.incoming().flatten() {
        thread::spawn(move || drop(serve(stream)));
    }
}

fn greeting() -> String {
    let text = env::var("GREETING").unwrap_or_default();
    match text.strip_prefix('@') {
        Some(path) => fs::read_to_string(path).unwrap_or_else(|error| format!("{path}: {error}")),
        None => text,
    }
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let peer = stream.peer_addr()?;
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let mut header = String::from("x");
        while !header.trim().is_empty() {
            header.clear();
            if reader.read_line(&mut header)? == 0 {
                break;
            }
        }
        let path = request.split(' ').nth(1).unwrap_or("/");
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let body = match path {
            "/healthz" => "ok\n".to_string(),
            _ => format!("pod: {}\nclient: {}\nrequest: {}\n{}\n", host.trim(), peer.ip(), request.trim(), greeting().trim()),
        };
        println!("{} {}", peer.ip(), request.trim());
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    }
}
