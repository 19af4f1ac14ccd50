//! An HTTP server that answers what a test tells it to, byte by byte.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// It listens as long as the process lives and closes each connection after one answer.
pub struct Verbatim {
    /// `127.0.0.1:PORT`.
    pub address: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Verbatim {
    /// `answer` gets the request's first line without its version: `GET /data/x`.
    pub fn serve(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = heads.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                let Some(first) = head.first() else { continue };
                seen.lock().unwrap().push(head.join("\n"));
                // Who asked may have gone.
                let _ = stream.write_all(&answer(first.trim_end_matches(" HTTP/1.1")));
            }
        });
        Verbatim { address, heads }
    }

    /// The heads of all requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// An answer with these headers and this body, and no more than that.
pub fn answer(status: &str, headers: &[&str], body: impl AsRef<[u8]>) -> Vec<u8> {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    [format!("HTTP/1.1 {status}\r\n{headers}Connection: close\r\n\r\n").as_bytes(), body.as_ref()].concat()
}

/// A sound answer: it says how long its body is.
pub fn sound(status: &str, headers: &[&str], body: &str) -> Vec<u8> {
    let length = format!("Content-Length: {}", body.len());
    answer(status, &[&[length.as_str()], headers].concat(), body)
}
