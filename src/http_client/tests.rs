use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use http::Method;

use super::*;

const OPTIONS: Options = Options {
    connect_timeout: Duration::from_secs(20),
    timeout: Duration::from_secs(20),
    max_response_size: 1_000,
    proxy: Proxy::None,
};

/// A server for one connection: its address, and what it has received when the client has sent as
/// many bytes as `ending` has at its end.
fn server(ending: &'static str, response: impl Into<String>) -> (String, Receiver<String>) {
    let response = response.into();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, received) = channel();
    thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        let mut text = String::new();
        let mut part = [0; 4096];
        while !text.ends_with(ending) {
            let size = connection.read(&mut part).unwrap();
            assert!(size > 0, "the request ended early: {text}");
            text.push_str(str::from_utf8(&part[..size]).unwrap());
        }
        sender.send(text).unwrap();
        connection.write_all(response.as_bytes()).unwrap();
    });
    (address, received)
}

fn get(url: &str) -> Request<Vec<u8>> {
    Request::builder().uri(url).body(Vec::new()).unwrap()
}

fn error_of(request: &Request<Vec<u8>>, options: &Options) -> Error {
    send(request, options).map(|response| response.status()).unwrap_err()
}

#[test]
fn request_has_exactly_the_given_headers() {
    let (address, received) = server("\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let request = Request::builder()
        .uri(format!("http://{address}/a%20b?c=d"))
        .header("x-empty", "")
        .header("x-value", "a: b")
        .body(Vec::new())
        .unwrap();
    let response = send(&request, &OPTIONS).unwrap();
    assert_eq!((response.status().as_u16(), &response.body()[..]), (200, &b"ok"[..]));
    let expected =
        format!("GET /a%20b?c=d HTTP/1.1\r\nHost: {address}\r\nAccept: */*\r\nx-empty:\r\nx-value: a: b\r\n\r\n");
    assert_eq!(received.recv().unwrap(), expected);
}

#[test]
fn body_is_sent_without_a_content_type_of_its_own() {
    let (address, received) = server("a\0b", "HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n");
    let request =
        Request::builder().method(Method::PUT).uri(format!("http://{address}/")).body(b"a\0b".to_vec()).unwrap();
    assert_eq!(send(&request, &OPTIONS).unwrap().status().as_u16(), 201);
    let request = received.recv().unwrap();
    assert!(request.starts_with("PUT / HTTP/1.1\r\n") && request.contains("\r\nContent-Length: 3\r\n"), "{request}");
    assert!(!request.to_ascii_lowercase().contains("content-type"), "{request}");
}

#[test]
fn empty_body_of_a_post_has_a_length() {
    let (address, received) = server("\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let request = Request::builder().method(Method::POST).uri(format!("http://{address}/")).body(Vec::new()).unwrap();
    send(&request, &OPTIONS).unwrap();
    assert!(received.recv().unwrap().contains("\r\nContent-Length: 0\r\n"));
}

/// Also, an interim response and a redirect are what they are.
#[test]
fn response_has_the_headers_of_the_last_one() {
    let text = "HTTP/1.1 103 Early Hints\r\nx-interim: 1\r\n\r\nHTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\n\
                  set-cookie: a\r\nset-cookie:  b \r\ncontent-length: 0\r\n\r\n";
    let (address, _received) = server("\r\n\r\n", text);
    let response = send(&get(&format!("http://{address}/")), &OPTIONS).unwrap();
    assert_eq!(response.status().as_u16(), 302);
    assert!(!response.headers().contains_key("x-interim"));
    let cookies: Vec<_> = response.headers().get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a", "b"]);
}

#[test]
fn response_beyond_the_limit_is_an_error() {
    let text = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(1_001));
    let (address, _received) = server("\r\n\r\n", text);
    let error = error_of(&get(&format!("http://{address}/")), &OPTIONS);
    assert!(error.message().contains("larger than 1000 bytes") && !error.is_retriable(), "{error}");
}

#[test]
fn transient_failures_are_retriable() {
    let refused = error_of(&get("http://127.0.0.1:1/"), &OPTIONS);
    assert!(refused.is_retriable() && refused.message().contains("refused"), "{refused}");
    let (address, _received) = server("\r\n\r\n", "");
    let closed = error_of(&get(&format!("http://{address}/")), &OPTIONS);
    assert!(closed.is_retriable(), "{closed}");
    let (address, _received) = server("\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nshort");
    let cut = error_of(&get(&format!("http://{address}/")), &OPTIONS);
    assert!(cut.is_retriable(), "{cut}");
}

#[test]
fn silent_server_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let started = Instant::now();
    let error =
        error_of(&get(&format!("http://{address}/")), &Options { timeout: Duration::from_millis(300), ..OPTIONS });
    assert!(error.is_retriable() && error.message().contains("timed out"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn urls_other_than_http_are_rejected() {
    for url in ["file://localhost/etc/passwd", "ftp://127.0.0.1/", "/path", "gopher://127.0.0.1/"] {
        let error = error_of(&get(url), &OPTIONS);
        assert!(!error.is_retriable(), "{url}: {error}");
    }
}

#[test]
fn host_name_is_resolved_and_its_port_kept() {
    let (address, received) = server("\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n");
    let port = address.rsplit(':').next().unwrap();
    assert_eq!(send(&get(&format!("http://localhost:{port}/")), &OPTIONS).unwrap().status().as_u16(), 204);
    assert!(received.recv().unwrap().contains(&format!("\r\nHost: localhost:{port}\r\n")));
}
