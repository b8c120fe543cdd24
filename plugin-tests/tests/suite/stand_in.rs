//! Stands in for web services that are asked for credentials and tokens: what is asked on the loopback is answered by a
//! function, and kept to be looked at.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Request {
    /// `GET /path`.
    pub line: String,
    /// In lower case: `name: value`.
    pub headers: Vec<String>,
    pub body: String,
}

/// Serves until the test process ends.
pub struct StandIn {
    address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

/// Status and body.
type Answer = (u16, String);

impl StandIn {
    pub fn start(answer: impl Fn(&Request) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let kept = requests.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                // One that breaks off is the client's business.
                let _ = connection.and_then(|connection| serve(connection, &kept, &answer));
            }
        });
        StandIn { address, requests }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

/// One request a connection.
fn serve(
    connection: TcpStream,
    kept: &Mutex<Vec<Request>>,
    answer: &dyn Fn(&Request) -> Answer,
) -> std::io::Result<()> {
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(connection);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim_end().is_empty() {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let Some((line, headers)) = lines.split_first() else { return Ok(()) };
    let headers: Vec<String> = headers
        .iter()
        .map(|header| {
            header.split_once(':').map_or(header.clone(), |(name, value)| format!("{}:{value}", name.to_lowercase()))
        })
        .collect();
    let length = headers.iter().find_map(|header| header.strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let line = line.rsplit_once(' ').map_or(line.as_str(), |(asked, _)| asked).to_owned();
    let request = Request { line, headers, body: String::from_utf8_lossy(&body).into_owned() };
    kept.lock().unwrap().push(request.clone());
    let (status, body) = answer(&request);
    // Instance metadata says how long a session lasts; nobody else minds the header.
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\nx-aws-ec2-metadata-token-ttl-seconds: 21600\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    reader.into_inner().write_all((head + &body).as_bytes())
}
