//! One request with libcurl's easy interface. The only module that calls libcurl.

use std::env;
use std::ffi::{CStr, CString, c_char, c_int, c_long, c_void};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::ptr::{self, NonNull};
use std::slice;
use std::time::Duration;

use curl_sys as curl;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use once_cell::sync::OnceCell;

use crate::config::ProxySettings;
use crate::support::error::{Error, Kind, Result};
use crate::support::resource_limit;

// curl-sys lacks these: curl/curl.h of libcurl 7.87.
const NO_PROXY: curl::CURLoption = curl::CURLOPTTYPE_OBJECTPOINT + 177;
const QUICK_EXIT: curl::CURLoption = curl::CURLOPTTYPE_LONG + 322;
const SUPPRESS_CONNECT_HEADERS: curl::CURLoption = curl::CURLOPTTYPE_LONG + 265;
const CURLE_PROXY: curl::CURLcode = 97;

/// A request to be sent.
pub struct Transfer {
    handle: NonNull<curl::CURL>,
    /// Lists that libcurl reads until the handle is freed.
    lists: Vec<NonNull<curl::curl_slist>>,
}

/// What the callbacks collect.
struct Received {
    /// The lines of the last header.
    header: Vec<u8>,
    body: Vec<u8>,
    max_body: usize,
    /// Of the last socket that could not be created.
    socket_errno: Option<c_int>,
}

impl Transfer {
    pub fn new() -> Result<Self> {
        initialize()?;
        // SAFETY: libcurl is initialized.
        let handle = NonNull::new(unsafe { curl::curl_easy_init() }).ok_or_else(out_of_memory)?;
        let mut transfer = Transfer { handle, lists: Vec::new() };
        // Otherwise libcurl's timeouts would use the host's signals.
        transfer.set_number(curl::CURLOPT_NOSIGNAL, 1)?;
        // Does not join the thread of a look-up that has timed out.
        transfer.set_number(QUICK_EXIT, 1)?;
        transfer.set_number(SUPPRESS_CONNECT_HEADERS, 1)?;
        // libcurl also reads files.
        transfer.set_number(curl::CURLOPT_PROTOCOLS, c_long::from(curl::CURLPROTO_HTTP | curl::CURLPROTO_HTTPS))?;
        Ok(transfer)
    }

    pub fn disable_proxy(&mut self) -> Result<()> {
        self.set_text(curl::CURLOPT_PROXY, "")
    }

    /// Sends the request through this proxy, whatever the environment says.
    pub fn use_proxy(&mut self, proxy: &ProxySettings) -> Result<()> {
        self.set_text(curl::CURLOPT_PROXY, proxy.url().reveal())?;
        // As for brokers. Else a proxy responds to a request itself, and its status would be taken
        // for the service's.
        self.set_number(curl::CURLOPT_HTTPPROXYTUNNEL, 1)?;
        self.set_text(NO_PROXY, "")
    }

    /// Uses these addresses for hosts and their ports instead of looking them up.
    pub fn set_addresses(&mut self, hosts: &[(String, u16, Vec<SocketAddr>)]) -> Result<()> {
        let line = |(host, port, addresses): &(String, u16, Vec<SocketAddr>)| {
            let addresses: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
            format!("{host}:{port}:{}", addresses.join(",")).into_bytes()
        };
        self.set_list(curl::CURLOPT_RESOLVE, hosts.iter().map(line))
    }

    pub fn set_request(&mut self, request: &Request<Vec<u8>>) -> Result<()> {
        self.set_text(curl::CURLOPT_URL, &request.uri().to_string())?;
        let body = request.body();
        if !body.is_empty() || matches!(*request.method(), Method::POST | Method::PUT) {
            self.set_body(body)?;
        }
        self.set_text(curl::CURLOPT_CUSTOMREQUEST, request.method().as_str())?;
        // libcurl sets these from the URL and the body.
        let by_libcurl = [CONTENT_LENGTH, HOST, TRANSFER_ENCODING];
        let mut lines: Vec<_> = request
            .headers()
            .iter()
            .filter(|(name, _)| !by_libcurl.contains(name))
            .map(|(name, value)| line(name, value))
            .collect();
        if !request.headers().contains_key(CONTENT_TYPE) {
            // Removes the one that libcurl adds to a body.
            lines.push(b"content-type:".to_vec());
        }
        self.set_list(curl::CURLOPT_HTTPHEADER, lines)
    }

    fn set_body(&mut self, body: &[u8]) -> Result<()> {
        // More than this does not fit into memory.
        let size = curl::curl_off_t::try_from(body.len()).unwrap_or(curl::curl_off_t::MAX);
        // SAFETY: the handle is alive, and this option has an integer of this type.
        check(unsafe { curl::curl_easy_setopt(self.handle.as_ptr(), curl::CURLOPT_POSTFIELDSIZE_LARGE, size) })?;
        // SAFETY: the handle is alive; libcurl copies as many bytes as the previous option says,
        // which `body` has.
        check(unsafe { curl::curl_easy_setopt(self.handle.as_ptr(), curl::CURLOPT_COPYPOSTFIELDS, body.as_ptr()) })
    }

    pub fn set_timeouts(&mut self, connect: Duration, total: Duration) -> Result<()> {
        // 0 would select libcurl's default.
        let millis = |time: Duration| c_long::try_from(time.as_millis()).unwrap_or(c_long::MAX).max(1);
        self.set_number(curl::CURLOPT_CONNECTTIMEOUT_MS, millis(connect))?;
        self.set_number(curl::CURLOPT_TIMEOUT_MS, millis(total))
    }

    /// Trusts the certificate authorities of OpenSSL's environment variables, or the system's.
    pub fn trust_system_authorities(&mut self) -> Result<()> {
        let variable = |name| env::var_os(name).map(PathBuf::from);
        let (mut file, mut folder) = (variable("SSL_CERT_FILE"), variable("SSL_CERT_DIR"));
        if file.is_none() && folder.is_none() {
            let system = openssl_probe::probe();
            (file, folder) = (system.cert_file, system.cert_dir.into_iter().next());
        }
        for (option, path) in [(curl::CURLOPT_CAINFO, file), (curl::CURLOPT_CAPATH, folder)] {
            if let Some(path) = path {
                self.set_text(option, path.to_string_lossy().as_ref())?;
            }
        }
        Ok(())
    }

    /// Sends the request and receives the response.
    pub fn perform(mut self, max_body: usize) -> Result<Response<Vec<u8>>> {
        let mut received = Received { header: Vec::new(), body: Vec::new(), max_body, socket_errno: None };
        let mut reason = [0 as c_char; curl::CURL_ERROR_SIZE];
        let collector = (&raw mut received).cast::<c_void>();
        self.set_pointer(curl::CURLOPT_WRITEDATA, collector)?;
        self.set_pointer(curl::CURLOPT_WRITEFUNCTION, receive_body as *mut c_void)?;
        self.set_pointer(curl::CURLOPT_HEADERDATA, collector)?;
        self.set_pointer(curl::CURLOPT_HEADERFUNCTION, receive_header as *mut c_void)?;
        self.set_pointer(curl::CURLOPT_OPENSOCKETDATA, collector)?;
        self.set_pointer(curl::CURLOPT_OPENSOCKETFUNCTION, open_socket as *mut c_void)?;
        self.set_pointer(curl::CURLOPT_ERRORBUFFER, reason.as_mut_ptr().cast())?;
        // SAFETY: the handle is alive. `received`, `reason` and the lists outlive it, since this
        // function drops it below.
        let code = unsafe { curl::curl_easy_perform(self.handle.as_ptr()) };
        let (status, errno) = (self.number(curl::CURLINFO_RESPONSE_CODE), self.number(curl::CURLINFO_OS_ERRNO));
        let refused_by_proxy = (400..500).contains(&self.number(curl::CURLINFO_HTTP_CONNECTCODE));
        drop(self);
        if code == curl::CURLE_OK {
            return response(status, received);
        }
        // SAFETY: the buffer is alive, and libcurl writes a NUL-terminated text to it, or nothing.
        let reason = unsafe { CStr::from_ptr(reason.as_ptr()) };
        let errno = received.socket_errno.or_else(|| c_int::try_from(errno).ok().filter(|errno| *errno != 0));
        Err(if received.body.len() > max_body {
            Error::new(Kind::Kafka, format!("the response is larger than {max_body} bytes"))
        } else {
            let error = failure(code, &reason.to_string_lossy(), errno);
            if refused_by_proxy { error.retriable(false) } else { error }
        })
    }

    fn set_number(&mut self, option: curl::CURLoption, value: c_long) -> Result<()> {
        // SAFETY: the handle is alive, and the callers' options have an integer of this type.
        check(unsafe { curl::curl_easy_setopt(self.handle.as_ptr(), option, value) })
    }

    fn set_text(&mut self, option: curl::CURLoption, value: &str) -> Result<()> {
        let text = terminated(value)?;
        // SAFETY: the handle is alive, and libcurl copies the text.
        check(unsafe { curl::curl_easy_setopt(self.handle.as_ptr(), option, text.as_ptr()) })
    }

    /// Sets a callback, or what it writes to.
    fn set_pointer(&mut self, option: curl::CURLoption, value: *mut c_void) -> Result<()> {
        // SAFETY: the handle is alive; `perform` passes callbacks of the options' types, and
        // memory that outlives the handle.
        check(unsafe { curl::curl_easy_setopt(self.handle.as_ptr(), option, value) })
    }

    fn set_list(&mut self, option: curl::CURLoption, lines: impl IntoIterator<Item = Vec<u8>>) -> Result<()> {
        let mut list = ptr::null_mut();
        for line in lines {
            let line = terminated(line)?;
            // SAFETY: `list` is null or a list, and libcurl copies the line.
            let longer = unsafe { curl::curl_slist_append(list, line.as_ptr()) };
            if longer.is_null() {
                // SAFETY: the call has failed, so the list is as before, and nobody else has it.
                unsafe { curl::curl_slist_free_all(list) };
                return Err(out_of_memory());
            }
            list = longer;
        }
        self.lists.extend(NonNull::new(list));
        // SAFETY: the handle is alive; the list is freed after it.
        check(unsafe { curl::curl_easy_setopt(self.handle.as_ptr(), option, list) })
    }

    fn number(&self, info: curl::CURLINFO) -> c_long {
        let mut value: c_long = 0;
        // SAFETY: the handle is alive, and the callers' values are of this type.
        unsafe { curl::curl_easy_getinfo(self.handle.as_ptr(), info, &raw mut value) };
        value
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        // SAFETY: the handle is alive, and is not used afterwards.
        unsafe { curl::curl_easy_cleanup(self.handle.as_ptr()) };
        for list in &self.lists {
            // SAFETY: the list is alive, and the handle that used it is not.
            unsafe { curl::curl_slist_free_all(list.as_ptr()) };
        }
    }
}

/// Initializes libcurl, once: librdkafka does too, and libcurl counts.
fn initialize() -> Result<()> {
    static INITIALIZED: OnceCell<()> = OnceCell::new();
    INITIALIZED
        .get_or_try_init(|| {
            // Before libcurl does it, for the reason that kafka/librdkafka/handle.rs gives.
            openssl_sys::init();
            // SAFETY: this version of libcurl allows it on any thread.
            check(unsafe { curl::curl_global_init(curl::CURL_GLOBAL_ALL) })
        })
        .copied()
}

fn check(code: curl::CURLcode) -> Result<()> {
    match code {
        curl::CURLE_OK => Ok(()),
        code => Err(failure(code, "", None)),
    }
}

fn out_of_memory() -> Error {
    resource_limit::of_errno("preparing an HTTP request", libc::ENOMEM)
}

fn terminated(text: impl Into<Vec<u8>>) -> Result<CString> {
    CString::new(text)
        .map_err(|_| Error::new(Kind::InvalidArgument, "a URL or header of an HTTP request contains a NUL byte"))
}

/// A header for libcurl, which takes `name:` for the removal of its own one.
fn line(name: &HeaderName, value: &HeaderValue) -> Vec<u8> {
    let separator: &[u8] = if value.is_empty() { b";" } else { b": " };
    [name.as_str().as_bytes(), separator, value.as_bytes()].concat()
}

fn response(status: c_long, received: Received) -> Result<Response<Vec<u8>>> {
    let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    let Some(status) = status else {
        return Err(Error::new(Kind::Unreachable, "the response has no HTTP status").retriable(true));
    };
    let mut response = Response::new(received.body);
    *response.status_mut() = status;
    for line in received.header.split(|byte| *byte == b'\n').skip(1) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            response.headers_mut().append(name, value);
        }
    }
    Ok(response)
}

/// The error for one of libcurl's codes, with the text and the `errno` that libcurl gives.
fn failure(code: curl::CURLcode, reason: &str, errno: Option<c_int>) -> Error {
    if let Some(errno) = errno.filter(|errno| resource_limit::is_limit(*errno)) {
        return resource_limit::of_errno("connecting", errno);
    }
    if code == curl::CURLE_OUT_OF_MEMORY {
        return out_of_memory();
    }
    // SAFETY: any number is allowed.
    let text = unsafe { curl::curl_easy_strerror(code) };
    // SAFETY: the text is static and NUL-terminated.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let reason = if reason.is_empty() { &text } else { reason };
    let cause = errno.map(|errno| format!(": {}", std::io::Error::from_raw_os_error(errno))).unwrap_or_default();
    let advice = match code {
        curl::CURLE_PEER_FAILED_VERIFICATION if reason.contains("target host") => {
            "; the URL must have a host name of the server's certificate"
        }
        curl::CURLE_PEER_FAILED_VERIFICATION => {
            "; if it is the right server, set SSL_CERT_FILE to the certificate authority that signed its certificate"
        }
        _ => "",
    };
    let is_transient = match code {
        curl::CURLE_COULDNT_RESOLVE_PROXY
        | curl::CURLE_COULDNT_RESOLVE_HOST
        | curl::CURLE_COULDNT_CONNECT
        | curl::CURLE_FTP_WEIRD_SERVER_REPLY
        | curl::CURLE_PARTIAL_FILE
        | curl::CURLE_OPERATION_TIMEDOUT
        | curl::CURLE_GOT_NOTHING
        | curl::CURLE_SEND_ERROR
        | curl::CURLE_RECV_ERROR => true,
        // Either the connection was lost, or the two sides have no TLS version or no authentication
        // in common.
        curl::CURLE_SSL_CONNECT_ERROR | CURLE_PROXY => errno.is_some(),
        _ => false,
    };
    Error::new(Kind::Unreachable, format!("{reason}{cause}{advice}")).retriable(is_transient)
}

/// Collects a part of the body. Another number than the part's size makes libcurl fail.
extern "C" fn receive_body(part: *mut c_char, size: usize, count: usize, received: *mut c_void) -> usize {
    // SAFETY: `perform` passes it, and libcurl calls one callback at a time.
    let received = unsafe { &mut *received.cast::<Received>() };
    // SAFETY: libcurl passes as many readable bytes.
    let part = unsafe { bytes(part, size * count) };
    received.body.extend_from_slice(part);
    if received.body.len() > received.max_body { 0 } else { part.len() }
}

/// Collects a line of a header, status line included.
extern "C" fn receive_header(line: *mut c_char, size: usize, count: usize, received: *mut c_void) -> usize {
    /// Of all lines; libcurl has a limit as well, 300 KB.
    const MAX_SIZE: usize = 1024 * 1024;
    // SAFETY: `perform` passes it, and libcurl calls one callback at a time.
    let received = unsafe { &mut *received.cast::<Received>() };
    // SAFETY: libcurl passes as many readable bytes.
    let line = unsafe { bytes(line, size * count) };
    if line.starts_with(b"HTTP/") {
        // The one before was an interim response.
        received.header.clear();
    }
    received.header.extend_from_slice(line);
    if received.header.len() > MAX_SIZE { 0 } else { line.len() }
}

/// # Safety
///
/// The memory has `size` readable bytes for as long as the slice is used; libcurl keeps it during a
/// callback.
unsafe fn bytes<'a>(start: *const c_char, size: usize) -> &'a [u8] {
    if size == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts(start.cast(), size) }
}

/// Creates a socket as libcurl does, and keeps the reason if that fails.
extern "C" fn open_socket(
    received: *mut c_void,
    _purpose: curl::curlsocktype,
    address: *mut curl::curl_sockaddr,
) -> curl::curl_socket_t {
    // SAFETY: libcurl passes an address that is valid during the call.
    let address = unsafe { &*address };
    // SAFETY: a call without memory.
    let socket = unsafe { libc::socket(address.family, address.socktype | libc::SOCK_CLOEXEC, address.protocol) };
    if socket < 0 {
        // SAFETY: `perform` passes it, and libcurl calls one callback at a time.
        let received = unsafe { &mut *received.cast::<Received>() };
        received.socket_errno = std::io::Error::last_os_error().raw_os_error();
    }
    socket
}
