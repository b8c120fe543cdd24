//! A mock of the web services that issue credentials and tokens. It listens on the loopback
//! interface, calls a function for each request and records the requests for the test to inspect.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Request {
    /// The method and the path: `GET /path`.
    pub line: String,
    /// `name: value`, the name in lower case.
    pub headers: Vec<String>,
    pub body: String,
}

/// Serves until the test process ends.
pub struct MockService {
    address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

/// Status and body.
type Response = (u16, String);

impl MockService {
    pub fn start(respond: impl Fn(&Request) -> Response + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let recorded = requests.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                // A client that closes its connection early is no failure of the service.
                let _ = connection.and_then(|connection| serve(connection, &recorded, &respond));
            }
        });
        MockService { address, requests }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

/// Serves one request per connection.
fn serve(
    connection: TcpStream,
    recorded: &Mutex<Vec<Request>>,
    respond: &dyn Fn(&Request) -> Response,
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
    let line = line.rsplit_once(' ').map_or(line.as_str(), |(request, _)| request).to_owned();
    let request = Request { line, headers, body: String::from_utf8_lossy(&body).into_owned() };
    recorded.lock().unwrap().push(request.clone());
    let (status, body) = respond(&request);
    // The EC2 instance metadata service sends the lifetime of its token in a header, which clients
    // of other services ignore.
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\nx-aws-ec2-metadata-token-ttl-seconds: 21600\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    reader.into_inner().write_all((head + &body).as_bytes())
}
