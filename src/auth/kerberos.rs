//! Kerberos: SASL's mechanism GSSAPI (RFC 4752), by the system's library. It finds tickets where
//! the site has configured them; with a key table it gets them itself, and renews them.

mod gssapi;

use std::ffi::{CString, c_void};
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ptr::null_mut;

use crate::support::error::{Error, Result};
use gssapi::{Buffer, Context, Credentials, Functions, Name, Oid, OidSet, Status, Store, StoreElement};

/// What a client authenticates with.
pub struct Kerberos {
    /// The name of the brokers' service, usually `kafka`.
    service: String,
    principal: Option<String>,
    /// The key table and the cache for its tickets, in memory.
    keytab: Option<(CString, CString)>,
}

impl Kerberos {
    /// `principal` and `keytab` are empty if they are not given.
    pub fn new(service: &str, principal: &str, keytab: &str) -> Result<Self> {
        let c_string = |text: &str| {
            CString::new(text).map_err(|_| Error::invalid("kafka.sasl.kerberos.keytab contains a NUL character"))
        };
        let keytab = match keytab {
            "" => None,
            path => {
                // Clients with the same identity share their tickets.
                let mut hasher = DefaultHasher::new();
                (principal, path).hash(&mut hasher);
                let cache = format!("MEMORY:octopus-{:016x}", hasher.finish());
                Some((c_string(path)?, c_string(&cache)?))
            }
        };
        let principal = Some(principal.to_owned()).filter(|principal| !principal.is_empty());
        Ok(Kerberos { service: service.to_owned(), principal, keytab })
    }

    /// An exchange with the broker on this host.
    pub fn begin(&self, host: &str) -> Exchange {
        Exchange {
            target: format!("{}@{host}", self.service),
            principal: self.principal.clone(),
            keytab: self.keytab.clone(),
            state: State::Start,
        }
    }
}

/// What the client does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Send(Vec<u8>),
    Done,
}

/// The authentication of one connection.
pub struct Exchange {
    /// `service@host`.
    target: String,
    principal: Option<String>,
    keytab: Option<(CString, CString)>,
    state: State,
}

enum State {
    Start,
    /// The security context is not complete yet.
    Context(SecurityContext),
    /// The broker sends the security layers that it offers.
    Layers(SecurityContext),
    /// The broker confirms the layer.
    Chosen,
}

// SAFETY: GSSAPI's objects may be used by any thread, one at a time, and an exchange is used by
// one.
unsafe impl Send for Exchange {}

impl Exchange {
    /// Goes on after the broker has sent `input`. Contacts the key distribution center if a ticket
    /// is missing, for as long as the site's krb5.conf says.
    ///
    /// # Errors
    /// The reason, and what to do.
    pub fn step(&mut self, input: &[u8]) -> std::result::Result<Step, String> {
        match std::mem::replace(&mut self.state, State::Chosen) {
            State::Start => {
                let context = SecurityContext::new(self)?;
                self.establish(context, &[])
            }
            State::Context(context) => self.establish(context, input),
            State::Layers(context) => Ok(Step::Send(context.choose_layer(input)?)),
            State::Chosen => Ok(Step::Done),
        }
    }

    fn establish(&mut self, mut context: SecurityContext, input: &[u8]) -> std::result::Result<Step, String> {
        let (token, is_complete) = context.establish(input, &self.target)?;
        self.state = if is_complete { State::Layers(context) } else { State::Context(context) };
        Ok(Step::Send(token))
    }
}

/// GSSAPI's security context with what it is made from. Released when it is dropped.
struct SecurityContext {
    functions: &'static Functions,
    credentials: Credentials,
    target: Name,
    context: Context,
}

impl SecurityContext {
    fn new(exchange: &Exchange) -> std::result::Result<Self, String> {
        let functions = gssapi::functions()?;
        let mut made = SecurityContext { functions, credentials: null_mut(), target: null_mut(), context: null_mut() };
        made.target = made.import(&exchange.target, &gssapi::HOST_BASED_SERVICE)?;
        let mut principal = match &exchange.principal {
            Some(name) => made.import(name, &gssapi::PRINCIPAL_NAME)?,
            None => null_mut(),
        };
        let acquired = made.acquire(principal, exchange);
        let mut minor = 0;
        if !principal.is_null() {
            // SAFETY: `import` has made the name, and it is not used again.
            unsafe { (functions.release_name)(&mut minor, &mut principal) };
        }
        acquired?;
        Ok(made)
    }

    fn import(&self, name: &str, kind: &'static Oid) -> std::result::Result<Name, String> {
        let (mut minor, mut imported) = (0, null_mut());
        // SAFETY: the buffer is alive during the call, the OID is constant, and the others are
        // writable.
        let major =
            unsafe { (self.functions.import_name)(&mut minor, &Buffer::of(name.as_bytes()), kind, &mut imported) };
        self.check(major, minor, || format!("the name {name:?}"))?;
        Ok(imported)
    }

    /// Gets the credentials of the key table or of the principal. Without both, they are those of
    /// the site's cache, which GSSAPI takes by itself.
    fn acquire(&mut self, principal: Name, exchange: &Exchange) -> std::result::Result<(), String> {
        let elements = exchange.keytab.as_ref().map(|(keytab, cache)| {
            [
                StoreElement { key: c"client_keytab".as_ptr(), value: keytab.as_ptr() },
                StoreElement { key: c"ccache".as_ptr(), value: cache.as_ptr() },
            ]
        });
        let store = match &elements {
            Some(elements) => Store { count: elements.len() as u32, elements: elements.as_ptr() },
            None if principal.is_null() => return Ok(()),
            None => Store { count: 0, elements: std::ptr::null() },
        };
        // For all mechanisms, Kerberos' server would be asked twice.
        let mechanisms = OidSet { count: 1, elements: &raw const gssapi::KERBEROS };
        let mut minor = 0;
        // SAFETY: the name is NULL or alive, the sets and the texts are alive during the call, and
        // the credentials are writable; the other arguments are optional.
        let major = unsafe {
            (self.functions.acquire_cred_from)(
                &mut minor,
                principal,
                u32::MAX,
                &mechanisms,
                gssapi::INITIATE,
                &store,
                &mut self.credentials,
                null_mut(),
                null_mut(),
            )
        };
        let principal = exchange.principal.as_deref();
        let Some((keytab, _)) = &exchange.keytab else {
            return self.check(major, minor, || format!("a ticket of {}", principal.unwrap_or_default()));
        };
        let path = keytab.to_string_lossy();
        let what = || format!("a ticket by the key of {} in {path}", principal.unwrap_or("any principal"));
        // Kerberos says only that there is no ticket.
        if major & gssapi::ERRORS != 0 && self.functions.reason(major, minor).contains("No credentials cache") {
            let reason = match File::open(path.trim_start_matches("FILE:")) {
                Err(cause) => format!("reading it: {cause}"),
                Ok(_) => format!("it has no such key; `klist -k {path}` lists its keys"),
            };
            return Err(format!("Kerberos: {}: {reason}", what()));
        }
        self.check(major, minor, what)
    }

    /// The token for the broker, and whether the context is complete.
    fn establish(&mut self, input: &[u8], target: &str) -> std::result::Result<(Vec<u8>, bool), String> {
        let (mut minor, mut output) = (0, Buffer::EMPTY);
        let input = Buffer::of(input);
        // SAFETY: credentials and context are NULL or alive, the name and the input are alive, and
        // the outputs are writable; the other arguments are optional.
        let major = unsafe {
            (self.functions.init_sec_context)(
                &mut minor,
                self.credentials,
                &mut self.context,
                self.target,
                &raw const gssapi::KERBEROS,
                gssapi::FLAGS,
                0,
                gssapi::NONE,
                &input,
                null_mut(),
                &mut output,
                null_mut(),
                null_mut(),
            )
        };
        // SAFETY: the function has filled the buffer, or left it empty.
        let token = unsafe { self.functions.take(output) };
        self.check(major, minor, || format!("a ticket for {target}"))?;
        Ok((token, major & gssapi::CONTINUE_NEEDED == gssapi::COMPLETE))
    }

    /// The response to the layers that the broker offers: none.
    fn choose_layer(&self, input: &[u8]) -> std::result::Result<Vec<u8>, String> {
        const NO_LAYER: u8 = 1;
        let (mut minor, mut offered) = (0, Buffer::EMPTY);
        // SAFETY: context and input are alive, and the outputs are writable or optional.
        let major = unsafe {
            (self.functions.unwrap)(&mut minor, self.context, &Buffer::of(input), &mut offered, null_mut(), null_mut())
        };
        // SAFETY: the function has filled the buffer, or left it empty.
        let offered = unsafe { self.functions.take(offered) };
        self.check(major, minor, || "the broker's security layers".to_owned())?;
        if offered.len() != 4 || offered[0] & NO_LAYER == 0 {
            return Err("the broker wants a security layer of SASL, which Kafka's protocol doesn't have".to_owned());
        }
        let (chosen, mut wrapped) = ([NO_LAYER, 0, 0, 0], Buffer::EMPTY);
        // SAFETY: context and input are alive, and the outputs are writable or optional.
        let major = unsafe {
            (self.functions.wrap)(&mut minor, self.context, 0, 0, &Buffer::of(&chosen), null_mut(), &mut wrapped)
        };
        // SAFETY: the function has filled the buffer, or left it empty.
        let wrapped = unsafe { self.functions.take(wrapped) };
        self.check(major, minor, || "the choice of a security layer".to_owned())?;
        Ok(wrapped)
    }

    fn check(&self, major: Status, minor: Status, what: impl Fn() -> String) -> std::result::Result<(), String> {
        if major & gssapi::ERRORS == 0 {
            return Ok(());
        }
        let reason = self.functions.reason(major, minor);
        Err(format!("Kerberos: {}: {reason}{}", what(), advice(&reason)))
    }
}

impl Drop for SecurityContext {
    fn drop(&mut self) {
        let mut minor = 0;
        if !self.context.is_null() {
            // SAFETY: the context is alive, and not used again; the token is optional.
            unsafe { (self.functions.delete_sec_context)(&mut minor, &mut self.context, null_mut::<c_void>().cast()) };
        }
        if !self.target.is_null() {
            // SAFETY: the name is alive, and not used again.
            unsafe { (self.functions.release_name)(&mut minor, &mut self.target) };
        }
        if !self.credentials.is_null() {
            // SAFETY: the credentials are alive, and not used again.
            unsafe { (self.functions.release_cred)(&mut minor, &mut self.credentials) };
        }
    }
}

/// What to do about a text of MIT Kerberos.
fn advice(reason: &str) -> &'static str {
    let has = |part: &str| reason.contains(part);
    if ["No Kerberos credentials", "No credentials cache", "credentials cache file", "find client principal"]
        .into_iter()
        .any(has)
    {
        "; run kinit, or set kafka.sasl.kerberos.keytab and kafka.sasl.kerberos.principal"
    } else if has("Ticket expired") {
        "; renew the ticket (kinit -R), or get a new one (kinit)"
    } else if has("Clock skew") {
        "; set the clock of this machine"
    } else if reason.starts_with("Server ") && has("not found in Kerberos database") {
        "; see kafka.sasl.kerberos.service.name, and the host names in kafka.bootstrap.servers and of the brokers"
    } else if has("Cannot contact any KDC") || has("Cannot find KDC") {
        "; see krb5.conf (KRB5_CONFIG), and the network"
    } else if has("not found in Kerberos database") || has("keytab") {
        "; see kafka.sasl.kerberos.principal and kafka.sasl.kerberos.keytab"
    } else {
        ""
    }
}
