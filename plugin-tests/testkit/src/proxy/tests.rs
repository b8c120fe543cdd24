use std::io::{Read as _, Write as _};

use super::*;

const TIMEOUT: Duration = Duration::from_secs(10);

/// A proxy in front of a broker that sends each request back.
fn proxy() -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(7).unwrap();
    proxy.set_broker(&listener.local_addr().unwrap().to_string());
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            thread::spawn(move || std::io::copy(&mut &client, &mut &client));
        }
    });
    proxy
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream
}

/// Read as a response, its correlation id has the API key and the API version 0.
fn request(api_key: ApiKey, size: usize) -> Vec<u8> {
    let header = [&(api_key as i16).to_be_bytes()[..], &[0; 2], &(api_key as i32 * 65_536).to_be_bytes()].concat();
    let body = [&header, &[0, 1, b'c'][..], &vec![b'x'; size]].concat();
    [&(body.len() as u32).to_be_bytes()[..], &body].concat()
}

fn receive(mut from: &TcpStream, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    from.read_exact(&mut bytes).unwrap();
    bytes
}

fn has_nothing_to_read(mut from: &TcpStream) -> bool {
    from.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let read = from.read(&mut [0]);
    from.set_read_timeout(Some(TIMEOUT)).unwrap();
    read.is_err()
}

#[test]
fn messages_are_forwarded_with_and_without_rules() {
    let proxy = proxy();
    let mut client = connect(&proxy);
    let (small, large) = (request(ApiKey::Produce, 10), request(ApiKey::Fetch, 100_000));
    for _ in 0..2 {
        // The last message is incomplete while a rule is added.
        let (begin, end) = small.split_at(3);
        client.write_all(&[&small[..], &large, begin].concat()).unwrap();
        assert_eq!(receive(&client, small.len() + large.len()), [&small[..], &large].concat());
        proxy.inject_fault("another", ApiKey::Produce, 1, HeldMessage::Request);
        client.write_all(end).unwrap();
        assert_eq!(receive(&client, small.len()), small);
    }
    assert_eq!(proxy.connection_count(), 1);
}

#[test]
fn chosen_message_is_held_back_with_those_behind_it() {
    for held in [HeldMessage::Request, HeldMessage::Response] {
        let proxy = proxy();
        let fault = proxy.inject_fault("c", ApiKey::Fetch, 2, held);
        let mut client = connect(&proxy);
        let message = request(ApiKey::Fetch, 10);
        client.write_all(&message).unwrap();
        assert_eq!(receive(&client, message.len()), message);
        assert!(!fault.wait(Duration::ZERO));
        client.write_all(&[&message[..], &message].concat()).unwrap();
        assert!(fault.wait(TIMEOUT), "{held:?}");
        assert!(has_nothing_to_read(&client), "{held:?}");
    }
}

#[test]
fn responses_are_changed_until_the_corruption_is_done() {
    let proxy = proxy();
    let message = request(ApiKey::Metadata, 10);
    let size = message.len();
    let corruption = proxy.corrupt_responses("c", ApiKey::Metadata, move |response| {
        response.push(b'!');
        response.len() > size
    });
    let mut client = connect(&proxy);
    client.write_all(&request(ApiKey::Produce, 10)).unwrap();
    assert_eq!(receive(&client, size), request(ApiKey::Produce, 10));
    assert!(!corruption.is_done());
    client.write_all(&message).unwrap();
    let changed = receive(&client, size + 1);
    assert_eq!((changed[3], changed[size]), (message[3] + 1, b'!'));
    assert!(corruption.is_done());
    client.write_all(&message).unwrap();
    assert_eq!(receive(&client, size), message);
}

#[test]
fn reset_cuts_a_message() {
    let proxy = proxy();
    let mut client = connect(&proxy);
    proxy.set_fault(NetworkFault::ResetAfter(Direction::Responses, 20));
    client.write_all(&request(ApiKey::Fetch, 1_000)).unwrap();
    assert_eq!(receive(&client, 20).len(), 20);
    let error = client.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(proxy.fault_count(), 1);
}

#[test]
fn black_hole_keeps_bytes_until_it_ends() {
    let proxy = proxy();
    let mut client = connect(&proxy);
    let message = request(ApiKey::Fetch, 10);
    proxy.set_fault(NetworkFault::BlackHole);
    client.write_all(&message).unwrap();
    assert!(has_nothing_to_read(&client));
    proxy.set_fault(NetworkFault::None);
    assert_eq!(receive(&client, message.len()), message);
}

#[test]
fn disconnect_closes_open_and_new_connections() {
    let proxy = proxy();
    let mut open = connect(&proxy);
    let message = request(ApiKey::Fetch, 10);
    open.write_all(&message).unwrap();
    receive(&open, message.len());
    proxy.set_fault(NetworkFault::Disconnect);
    for mut client in [open, connect(&proxy)] {
        assert_eq!(client.read(&mut [0]).unwrap_or(0), 0);
    }
    proxy.set_fault(NetworkFault::None);
    let mut client = connect(&proxy);
    client.write_all(&message).unwrap();
    assert_eq!(receive(&client, message.len()), message);
}

#[test]
fn flipped_bits_depend_on_the_seed_only() {
    let message = request(ApiKey::Fetch, 10_000);
    let flipped = || {
        let proxy = proxy();
        proxy.set_fault(NetworkFault::Flip(100));
        let mut client = connect(&proxy);
        client.write_all(&message).unwrap();
        (receive(&client, message.len()), proxy.fault_count())
    };
    let (first, second) = (flipped(), flipped());
    assert_eq!(first, second);
    assert!(first.0 != message && first.1 > 10);
}
