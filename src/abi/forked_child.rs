//! The library in a forked child: a copy of it, loaded when the child first creates something.
//!
//! After a fork any lock of this library, of librdkafka, OpenSSL or curl may be held by a thread that the child doesn't
//! have, so none of their state can be used again. The copy is the same file, loaded under another name: it has
//! statics of its own, and starts from nothing. The slots of this library, whose addresses the host has, forward to
//! the slots of the copy. Objects know the process that made them (`poison.rs`): the copy rejects those of the parent.
//!
//! docs/decisions/0003-forked-children.md says what else was considered.

use std::ffi::{CStr, CString, c_void};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering};
use std::time::Duration;

use super::{OCTOPUS_ABI_MAJOR, octopus_api};
use crate::error::{Error, Kind, Result};
use crate::fork;
use crate::protection::Protection;

/// The copy's tables, in a child that has one. A child of that child inherits the pointer; the slots it leads to forward
/// further, to a copy of the copy.
static COPY: AtomicPtr<octopus_api> = AtomicPtr::new(std::ptr::null_mut());

/// In a copy: the path of the file that the program loaded. Its own was a temporary one.
static ORIGINAL: AtomicPtr<PathBuf> = AtomicPtr::new(std::ptr::null_mut());

pub fn copy() -> Option<&'static octopus_api> {
    // SAFETY: NULL, or tables that live until the process ends.
    unsafe { COPY.load(Ordering::Acquire).as_ref() }
}

/// The copy's tables; it is loaded if it isn't there yet.
pub fn load() -> Result<&'static octopus_api> {
    const RETRY: Duration = Duration::from_millis(1);
    /// The process whose thread loads the copy. One that was copied from the parent is not this process, and says nothing.
    static LOADER: AtomicI32 = AtomicI32::new(0);
    // SAFETY: has no preconditions.
    let this_process = unsafe { libc::getpid() };
    loop {
        if let Some(api) = copy() {
            return Ok(api);
        }
        let loader = LOADER.load(Ordering::Acquire);
        if loader == this_process {
            std::thread::sleep(RETRY);
        } else if LOADER.compare_exchange(loader, this_process, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            break;
        }
    }
    let load = || if Protection::ForkedChild.is_on() { load_copy() } else { Err("it is turned off".to_owned()) };
    let loaded = catch_unwind(load).unwrap_or_else(|_| Err("a panic; this is a defect of Octopus".to_owned()));
    let loaded = loaded.map_err(|why| {
        let attempt =
            "this process was forked from one that uses Octopus, and a copy of the library for it can't be loaded";
        Error::new(Kind::Forked, format!("{attempt}: {why}"))
    });
    if let Ok(api) = loaded {
        COPY.store(std::ptr::from_ref(api).cast_mut(), Ordering::Release);
    }
    LOADER.store(0, Ordering::Release);
    loaded
}

type Register = extern "C" fn(u32) -> *const octopus_api;

fn load_copy() -> std::result::Result<&'static octopus_api, String> {
    let original = original_path()?;
    let image = read_image(&original)?;
    let library = open_copy(&image)?;
    // SAFETY: a loaded library; the name is terminated.
    let register = unsafe { libc::dlsym(library, c"octopus_register".as_ptr()) };
    if register.is_null() {
        return Err("it has no octopus_register".to_owned());
    }
    // In the same image, everything is equally far from its beginning. Our own `octopus_register` would not do to measure
    // that: an exported function can be another library's, of which this one is a copy.
    let begins = |address: *const c_void| image_of(address).ok_or("the loader does not know it");
    let distance = begins(register.cast_const())?.addr().wrapping_sub(begins(own_address())?.addr());
    // SAFETY: the statics of the copy at the places of ours, of the same types; no other thread knows the copy yet.
    unsafe {
        let generation = std::ptr::from_ref(fork::generation_cell()).wrapping_byte_add(distance);
        (*generation).store(fork::generation() + 1, Ordering::Relaxed);
        let path = (&raw const ORIGINAL).wrapping_byte_add(distance);
        (*path).store(Box::into_raw(Box::new(original)), Ordering::Release);
    }
    // SAFETY: the same function as ours.
    let register = unsafe { std::mem::transmute::<*mut c_void, Register>(register) };
    // SAFETY: NULL, or tables that live until the process ends.
    unsafe { register(OCTOPUS_ABI_MAJOR).as_ref() }.ok_or_else(|| "it gave no tables".to_owned())
}

/// The file that this library was loaded from.
fn original_path() -> std::result::Result<PathBuf, String> {
    // SAFETY: NULL, or a path that is never freed.
    if let Some(path) = unsafe { ORIGINAL.load(Ordering::Acquire).as_ref() } {
        return Ok(path.clone());
    }
    // The loader's name of the library may be relative to a directory that the process has left.
    let maps = std::fs::read_to_string("/proc/self/maps").map_err(|why| format!("reading /proc/self/maps: {why}"))?;
    // Its beginning, since a static that is zero has memory of no file.
    let address = image_of(own_address()).ok_or("the loader does not know it")?.addr();
    let path = maps.lines().find_map(|line| path_of_mapping(line, address)).ok_or("no file is mapped where it is")?;
    match path.strip_suffix(" (deleted)") {
        Some(path) => Err(format!("{path} was deleted or replaced after it was loaded; restart the program")),
        None => Ok(PathBuf::from(path)),
    }
}

/// The file of a line of /proc/self/maps (proc_pid_maps(5)), if the address is within.
fn path_of_mapping(line: &str, address: usize) -> Option<&str> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let range = usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?;
    let path = &rest[rest.find('/')?..];
    range.contains(&address).then_some(path)
}

// --- the file -----------------------------------------------------------------------------------------------------------

/// As much of the file as is loaded: what debuggers read besides can be ten times as large, and each child would have it.
fn read_image(path: &Path) -> std::result::Result<Vec<u8>, String> {
    let failed = |why: io::Error| format!("reading {}: {why}", path.display());
    let mut file = File::open(path).map_err(failed)?;
    let mut header = [0; size_of::<libc::Elf64_Ehdr>()];
    file.read_exact(&mut header).map_err(failed)?;
    // SAFETY: all bytes are valid in it, and it is read as if unaligned.
    let mut elf = unsafe { header.as_ptr().cast::<libc::Elf64_Ehdr>().read_unaligned() };
    let mut segments = vec![0; usize::from(elf.e_phnum) * size_of::<libc::Elf64_Phdr>()];
    file.seek(io::SeekFrom::Start(elf.e_phoff)).and_then(|_| file.read_exact(&mut segments)).map_err(failed)?;
    let segments = segments.chunks_exact(size_of::<libc::Elf64_Phdr>()).map(|bytes| {
        // SAFETY: as many bytes as it has, all valid, read as if unaligned.
        unsafe { bytes.as_ptr().cast::<libc::Elf64_Phdr>().read_unaligned() }
    });
    let loaded: Vec<_> = segments.filter(|segment| segment.p_type == libc::PT_LOAD).collect();
    let size = loaded.iter().map(|segment| segment.p_offset.saturating_add(segment.p_filesz)).max().unwrap_or(0);
    let mut image = Vec::new();
    file.seek(io::SeekFrom::Start(0)).and_then(|_| file.take(size).read_to_end(&mut image)).map_err(failed)?;
    if image.len() as u64 != size || !loaded.first().is_some_and(|first| is_loaded_here(&image, first)) {
        return Err(format!("{} was replaced after it was loaded; restart the program", path.display()));
    }
    // Their table lies behind what is loaded.
    (elf.e_shoff, elf.e_shnum, elf.e_shstrndx) = (0, 0, 0);
    // SAFETY: plain numbers.
    let header = unsafe { std::slice::from_raw_parts((&raw const elf).cast::<u8>(), size_of_val(&elf)) };
    image[..header.len()].copy_from_slice(header);
    Ok(image)
}

/// An address of this library, whatever else is loaded.
fn own_address() -> *const c_void {
    (&raw const COPY).cast()
}

/// Where the library with this address begins.
fn image_of(address: *const c_void) -> Option<*const c_void> {
    let mut information = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: any address is allowed, and the place can be written; zeros are valid in it.
    unsafe {
        let found = libc::dladdr(address, information.as_mut_ptr()) != 0;
        found.then(|| information.assume_init().dli_fbase.cast_const())
    }
}

/// Whether the first segment, which nobody writes to, is the one of this library: its symbols, relocations and build id.
fn is_loaded_here(image: &[u8], first: &libc::Elf64_Phdr) -> bool {
    let Some(begin) = image_of(own_address()) else { return false };
    let size = usize::try_from(first.p_filesz).unwrap_or(usize::MAX);
    // A copy's header lacks the table of sections.
    let behind_header = size_of::<libc::Elf64_Ehdr>();
    if first.p_offset != 0 || first.p_flags & libc::PF_W != 0 || !(behind_header..=image.len()).contains(&size) {
        return false;
    }
    // SAFETY: the segment is mapped where the library begins. If this is another file, it may be shorter there, but the
    // program headers were compared first: they lie at the beginning of the first page.
    let here = unsafe { std::slice::from_raw_parts(begin.cast::<u8>(), 4096.min(size)) };
    if here[behind_header..] != image[behind_header..here.len()] {
        return false;
    }
    // SAFETY: the same program headers, so the segment is as long as in the file.
    let here = unsafe { std::slice::from_raw_parts(begin.cast::<u8>(), size) };
    here[behind_header..] == image[behind_header..size]
}

// --- loading ------------------------------------------------------------------------------------------------------------

/// Loads the image from memory, or where that isn't allowed from a file that is removed at once.
fn open_copy(image: &[u8]) -> std::result::Result<*mut c_void, String> {
    let mut failures = Vec::new();
    match open_in_memory(image) {
        Ok(library) => return Ok(library),
        Err(why) => failures.push(format!("in memory: {why}")),
    }
    let folders = [std::env::var_os("TMPDIR").map(PathBuf::from), Some("/tmp".into()), Some("/dev/shm".into())];
    for folder in folders.into_iter().flatten() {
        match open_in_folder(image, &folder) {
            Ok(library) => return Ok(library),
            Err(why) => failures.push(format!("in {}: {why}", folder.display())),
        }
    }
    Err(format!("{}; set TMPDIR to a folder whose files can be executed", failures.join("; ")))
}

fn open_in_memory(image: &[u8]) -> std::result::Result<*mut c_void, String> {
    /// Needed where `vm.memfd_noexec` is 1; unknown to older systems.
    const MFD_EXEC: u32 = 0x10;
    // SAFETY: the name is terminated.
    let create = |flags| unsafe { libc::memfd_create(c"octopus".as_ptr(), flags) };
    let mut descriptor = create(libc::MFD_CLOEXEC | MFD_EXEC);
    if descriptor < 0 {
        descriptor = create(libc::MFD_CLOEXEC);
    }
    if descriptor < 0 {
        return Err(io::Error::last_os_error().to_string());
    }
    // SAFETY: open, and nobody else's.
    let mut file = unsafe { File::from_raw_fd(descriptor) };
    file.write_all(image).map_err(|why| why.to_string())?;
    // With the process id, since the loader knows a library by its name: a child's descriptor can have the number that
    // its parent's had.
    open_library(Path::new(&format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd())))
}

fn open_in_folder(image: &[u8], folder: &Path) -> std::result::Result<*mut c_void, String> {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!("liboctopus-{}-{number}-{}.so", std::process::id(), uuid::Uuid::new_v4().simple()));
    let mut options = File::options();
    let mut file = options.write(true).create_new(true).mode(0o700).open(&path).map_err(|why| why.to_string())?;
    let opened = file.write_all(image).map_err(|why| why.to_string()).and_then(|()| {
        drop(file);
        open_library(&path)
    });
    let _ = std::fs::remove_file(&path);
    opened
}

fn open_library(path: &Path) -> std::result::Result<*mut c_void, String> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|why| why.to_string())?;
    // SAFETY: a terminated path. The library's constructors are those that ran when the program loaded it.
    let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if !library.is_null() {
        return Ok(library);
    }
    // SAFETY: NULL, or a text that is valid until the next call of this kind on this thread.
    let why = unsafe { libc::dlerror() };
    if why.is_null() {
        return Err("dlopen gave no reason".to_owned());
    }
    // SAFETY: as above.
    Err(unsafe { CStr::from_ptr(why) }.to_string_lossy().into_owned())
}

/// In a forked child, calls the slot of the copy and returns what that returns, or `$otherwise` if there is no copy. The one
/// look of a call at whether this is a child.
macro_rules! forward {
    ($otherwise:expr; $table:ident.$slot:ident($($argument:expr),* $(,)?)) => {
        if $crate::fork::is_forked_child() {
            // SAFETY: the copy's table lives until the process ends; the caller keeps the promises of the slot.
            unsafe {
                return match $crate::abi::forked_child::copy().and_then(|api| (*api.$table).$slot) {
                    Some(slot) => slot($($argument),*),
                    None => $otherwise,
                };
            }
        }
    };
}
pub(super) use forward;

/// As `forward`, for a slot that creates something: loads the copy if it isn't there.
macro_rules! forward_creation {
    ($table:ident.$slot:ident($($argument:expr),* $(,)?), $error:expr) => {
        if $crate::fork::is_forked_child() && !$crate::fork::adopt_unused() {
            // SAFETY: as in `forward`; the error's place is NULL or writable.
            unsafe {
                // Libc itself can't be used in a child that it was not told of.
                if !$crate::fork::was_announced() {
                    return $crate::abi::guard::refuse($error);
                }
                match $crate::abi::forked_child::load() {
                    Ok(api) => {
                        if let Some(slot) = (*api.$table).$slot {
                            return slot($($argument),*);
                        }
                    }
                    Err(why) => return $crate::abi::guard::fail($error, why),
                }
            }
        }
        $crate::fork::note_use();
    };
}
pub(super) use forward_creation;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_of_mapping_is_found_by_address() {
        let line = "7f00-7fff r-xp 00001000 08:01 1234   /usr/lib/a b/liboctopus.so";
        assert_eq!(path_of_mapping(line, 0x7f00), Some("/usr/lib/a b/liboctopus.so"));
        assert_eq!(path_of_mapping(line, 0x7fff), None);
        assert_eq!(path_of_mapping("7f00-7fff rw-p 00000000 00:00 0", 0x7f01), None);
        assert_eq!(path_of_mapping("nonsense", 1), None);
    }
}
