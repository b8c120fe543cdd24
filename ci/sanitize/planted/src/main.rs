//! Loads the library with the faults as a host loads the plugin, and runs one: `planted LIBRARY
//! FAULT`.

use std::env;
use std::ffi::{CString, c_char, c_int, c_void};
use std::mem::transmute;

const RTLD_NOW: c_int = 2;

unsafe extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

fn main() {
    let arguments: Vec<_> =
        env::args().skip(1).map(|text| CString::new(text).expect("no NUL in an argument")).collect();
    let [path, fault] = &arguments[..] else { panic!("usage: planted LIBRARY FAULT") };
    // SAFETY: `path` is a live C string; the library has no constructors.
    let library = unsafe { dlopen(path.as_ptr(), RTLD_NOW) };
    assert!(!library.is_null(), "{path:?} could not be loaded");
    // SAFETY: `library` is open; the name is a C string.
    let commit = unsafe { dlsym(library, c"commit".as_ptr()) };
    assert!(!commit.is_null(), "{path:?} has no function commit");
    // SAFETY: src/lib.rs exports `commit` with this type.
    let commit: unsafe extern "C" fn(*const c_char) = unsafe { transmute(commit) };
    // SAFETY: `fault` is a live C string.
    unsafe { commit(fault.as_ptr()) };
}
