//! The functions of MIT Kerberos' libgssapi_krb5 that Octopus calls, loaded when they are first
//! needed. Types and constants are those of RFC 2744, and of gssapi_ext.h of MIT Kerberos 1.11.

use std::error::Error as _;
use std::ffi::{c_char, c_int, c_void};
use std::ptr::{null, null_mut};

use libloading::Library;
use once_cell::sync::OnceCell;

const NAME: &str = "libgssapi_krb5.so.2";

pub type Status = u32;
pub type Name = *mut c_void;
pub type Context = *mut c_void;
pub type Credentials = *mut c_void;

#[repr(C)]
pub struct Buffer {
    pub length: usize,
    pub value: *mut c_void,
}

/// An object identifier.
#[repr(C)]
pub struct Oid {
    length: u32,
    elements: *const u8,
}

// SAFETY: the elements are constant.
unsafe impl Sync for Oid {}

#[repr(C)]
pub struct StoreElement {
    pub key: *const c_char,
    pub value: *const c_char,
}

/// A set of object identifiers.
#[repr(C)]
pub struct OidSet {
    pub count: usize,
    pub elements: *const Oid,
}

/// Where credentials are looked for.
#[repr(C)]
pub struct Store {
    pub count: u32,
    pub elements: *const StoreElement,
}

const fn oid(elements: &'static [u8]) -> Oid {
    Oid { length: elements.len() as u32, elements: elements.as_ptr() }
}

/// `GSS_C_NT_HOSTBASED_SERVICE`.
pub static HOST_BASED_SERVICE: Oid = oid(b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x01\x04");
/// `GSS_KRB5_NT_PRINCIPAL_NAME`.
pub static PRINCIPAL_NAME: Oid = oid(b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01");
/// `gss_mech_krb5`.
pub static KERBEROS: Oid = oid(b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02");

pub const COMPLETE: Status = 0;
pub const CONTINUE_NEEDED: Status = 1;
/// The bits of errors.
pub const ERRORS: Status = 0xffff_0000;
/// `GSS_C_INITIATE`.
pub const INITIATE: c_int = 1;
/// `GSS_C_MUTUAL_FLAG`, `GSS_C_SEQUENCE_FLAG` and `GSS_C_INTEG_FLAG`.
pub const FLAGS: u32 = 2 | 8 | 32;
/// `GSS_C_GSS_CODE` and `GSS_C_MECH_CODE`.
pub const BY_GSSAPI: c_int = 1;
pub const BY_MECHANISM: c_int = 2;

/// The functions. The first argument of each one receives the status of the mechanism.
pub struct Functions {
    pub import_name: unsafe extern "C" fn(*mut Status, *const Buffer, *const Oid, *mut Name) -> Status,
    pub release_name: unsafe extern "C" fn(*mut Status, *mut Name) -> Status,
    pub acquire_cred_from: unsafe extern "C" fn(
        *mut Status,
        Name,
        u32,
        *const OidSet,
        c_int,
        *const Store,
        *mut Credentials,
        *mut *mut c_void,
        *mut u32,
    ) -> Status,
    pub release_cred: unsafe extern "C" fn(*mut Status, *mut Credentials) -> Status,
    pub init_sec_context: unsafe extern "C" fn(
        *mut Status,
        Credentials,
        *mut Context,
        Name,
        *const Oid,
        u32,
        u32,
        *const c_void,
        *const Buffer,
        *mut *const Oid,
        *mut Buffer,
        *mut u32,
        *mut u32,
    ) -> Status,
    pub delete_sec_context: unsafe extern "C" fn(*mut Status, *mut Context, *mut Buffer) -> Status,
    pub unwrap: unsafe extern "C" fn(*mut Status, Context, *const Buffer, *mut Buffer, *mut c_int, *mut u32) -> Status,
    pub wrap: unsafe extern "C" fn(*mut Status, Context, c_int, u32, *const Buffer, *mut c_int, *mut Buffer) -> Status,
    pub release_buffer: unsafe extern "C" fn(*mut Status, *mut Buffer) -> Status,
    pub display_status: unsafe extern "C" fn(*mut Status, Status, c_int, *const Oid, *mut u32, *mut Buffer) -> Status,
    /// Never unloaded.
    _library: Library,
}

/// The functions. A library that can't be loaded is tried again the next time.
///
/// # Errors
/// Why it can't be loaded.
pub fn functions() -> Result<&'static Functions, String> {
    static LOADED: OnceCell<Functions> = OnceCell::new();
    LOADED.get_or_try_init(load).map_err(|error| {
        // The system's text.
        let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        format!(
            "loading {NAME}: {cause}; Kerberos needs the library of MIT Kerberos (Debian: libgssapi-krb5-2; Red Hat: \
             krb5-libs)"
        )
    })
}

fn load() -> Result<Functions, libloading::Error> {
    // SAFETY: the library is the system's, whose constructors have no preconditions.
    let library = unsafe { Library::new(NAME) }?;
    macro_rules! function {
        ($name:literal) => {
            // SAFETY: the function has the type of RFC 2744 or gssapi_ext.h, which the field has.
            *unsafe { library.get(concat!($name, "\0").as_bytes()) }?
        };
    }
    Ok(Functions {
        import_name: function!("gss_import_name"),
        release_name: function!("gss_release_name"),
        acquire_cred_from: function!("gss_acquire_cred_from"),
        release_cred: function!("gss_release_cred"),
        init_sec_context: function!("gss_init_sec_context"),
        delete_sec_context: function!("gss_delete_sec_context"),
        unwrap: function!("gss_unwrap"),
        wrap: function!("gss_wrap"),
        release_buffer: function!("gss_release_buffer"),
        display_status: function!("gss_display_status"),
        _library: library,
    })
}

impl Buffer {
    pub const EMPTY: Buffer = Buffer { length: 0, value: null_mut() };

    /// A buffer that a call only reads.
    pub fn of(bytes: &[u8]) -> Self {
        Buffer { length: bytes.len(), value: bytes.as_ptr().cast_mut().cast() }
    }
}

impl Functions {
    /// Copies a buffer that a function has filled, and frees it.
    ///
    /// # Safety
    /// The buffer was filled by one of these functions, or is empty.
    pub unsafe fn take(&self, mut buffer: Buffer) -> Vec<u8> {
        if buffer.value.is_null() {
            return Vec::new();
        }
        // SAFETY: the function has filled `length` bytes.
        let bytes = unsafe { std::slice::from_raw_parts(buffer.value.cast::<u8>(), buffer.length) }.to_vec();
        let mut minor = 0;
        // SAFETY: a function of the library has allocated the buffer, which is not used again.
        unsafe { (self.release_buffer)(&mut minor, &mut buffer) };
        bytes
    }

    /// The texts for a status of GSSAPI and one of Kerberos.
    pub fn reason(&self, major: Status, minor: Status) -> String {
        let text = |status, kind| {
            let (mut texts, mut more, mut ignored) = (Vec::new(), 0, 0);
            loop {
                let mut text = Buffer::EMPTY;
                // SAFETY: all pointers are writable locals, and the OID is constant.
                let shown = unsafe {
                    (self.display_status)(&mut ignored, status, kind, &raw const KERBEROS, &mut more, &mut text)
                };
                // SAFETY: the function has filled the buffer, or left it empty.
                texts.push(String::from_utf8_lossy(&unsafe { self.take(text) }).into_owned());
                if shown & ERRORS != 0 || more == 0 || texts.len() > 8 {
                    return texts.join("; ");
                }
            }
        };
        let (by_gssapi, by_kerberos) = (text(major, BY_GSSAPI), text(minor, BY_MECHANISM));
        // The first one is `Unspecified GSS failure` if Kerberos has a reason.
        if minor != 0 && !by_kerberos.is_empty() { by_kerberos } else { by_gssapi }
    }
}

/// No value for an optional argument.
pub const NONE: *const c_void = null();
