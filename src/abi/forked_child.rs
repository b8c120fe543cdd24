//! The library in a forked child: a copy of it, which is loaded when the child first creates
//! something.
//!
//! After a fork, a thread that does not exist in the child may hold any lock of this library,
//! librdkafka, OpenSSL or curl, so none of their state can be used again. The copy is the same
//! file, loaded under another name, so it has its own statics in their initial state. The slots of
//! this library, whose addresses the host has, forward calls to the slots of the copy. Each object
//! records the process that created it (`poison.rs`), so the copy rejects the parent's objects.
//!
//! docs/decisions/0003-forked-children.md has the alternatives.

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
use crate::support::error::{Error, Kind, Result};
use crate::support::fork;
use crate::support::protection::Protection;

/// The copy's entry table, in a child that has a copy. A child of that child inherits the pointer;
/// its slots forward to the copy of the copy.
static COPY: AtomicPtr<octopus_api> = AtomicPtr::new(std::ptr::null_mut());

/// In a copy: the path of the file that the program loaded. The copy's own file was temporary.
static ORIGINAL: AtomicPtr<PathBuf> = AtomicPtr::new(std::ptr::null_mut());

pub fn copy() -> Option<&'static octopus_api> {
    // SAFETY: the pointer is NULL, or points to a table that lives until the process ends (`load`
    // stored it).
    unsafe { COPY.load(Ordering::Acquire).as_ref() }
}

/// The copy's entry table. Loads the copy if that is not done yet.
pub fn load() -> Result<&'static octopus_api> {
    const RETRY: Duration = Duration::from_millis(1);
    /// The process that is loading the copy. A value inherited from the parent is another process
    /// id, and is ignored.
    static LOADER: AtomicI32 = AtomicI32::new(0);
    // SAFETY: `getpid` has no preconditions.
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
    let load = || {
        if Protection::ForkedChild.is_on() { load_copy() } else { Err("it is switched off".to_owned()) }
    };
    let loaded = catch_unwind(load).unwrap_or_else(|_| Err("Octopus panicked; please report this bug".to_owned()));
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
    // SAFETY: `library` is a handle of `dlopen`, and the name is NUL-terminated.
    let register = unsafe { libc::dlsym(library, c"octopus_register".as_ptr()) };
    if register.is_null() {
        return Err("the copy has no symbol octopus_register".to_owned());
    }
    // Both images have the same layout, so the distance of their base addresses is the distance of
    // each static. The address of our own `octopus_register` can't be used: the loader may resolve
    // an exported function to another library, for example to the original of this copy.
    let base_of = |address: *const c_void| image_base(address).ok_or("the loader does not know its address");
    let distance = base_of(register.cast_const())?.addr().wrapping_sub(base_of(own_address())?.addr());
    let generation = std::ptr::from_ref(fork::generation_cell()).wrapping_byte_add(distance);
    // SAFETY: at `distance` from each of our statics is the same static of the copy, of the same
    // type. No other thread uses the copy yet.
    unsafe { &*generation }.store(fork::generation() + 1, Ordering::Relaxed);
    let path = (&raw const ORIGINAL).wrapping_byte_add(distance);
    // SAFETY: as above.
    unsafe { &*path }.store(Box::into_raw(Box::new(original)), Ordering::Release);
    // SAFETY: the symbol is `octopus_register` of the same library, so it has this type.
    let register = unsafe { std::mem::transmute::<*mut c_void, Register>(register) };
    // SAFETY: the result is NULL, or a table that lives until the process ends (contract of
    // `octopus_register`).
    unsafe { register(OCTOPUS_ABI_MAJOR).as_ref() }.ok_or_else(|| "its octopus_register returned NULL".to_owned())
}

/// The file that this library was loaded from.
fn original_path() -> std::result::Result<PathBuf, String> {
    // SAFETY: the pointer is NULL, or points to a path that is never freed.
    if let Some(path) = unsafe { ORIGINAL.load(Ordering::Acquire).as_ref() } {
        return Ok(path.clone());
    }
    // The loader's path of the library may be relative to a former working directory, so it is not
    // used.
    let maps = std::fs::read_to_string("/proc/self/maps").map_err(|why| format!("reading /proc/self/maps: {why}"))?;
    // The base address is part of a file mapping; the address of a zero-initialized static is not.
    let address = image_base(own_address()).ok_or("the loader does not know its address")?.addr();
    let path = maps.lines().find_map(|line| path_of_mapping(line, address)).ok_or("no file is mapped there")?;
    match path.strip_suffix(" (deleted)") {
        Some(path) => Err(format!("{path} was deleted or replaced after it was loaded; restart the program")),
        None => Ok(PathBuf::from(path)),
    }
}

/// The file of a line of /proc/self/maps (proc_pid_maps(5)), if the line's range contains the
/// address.
fn path_of_mapping(line: &str, address: usize) -> Option<&str> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let range = usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?;
    let path = &rest[rest.find('/')?..];
    range.contains(&address).then_some(path)
}

// --- the file
// -----------------------------------------------------------------------------------------------------------

/// Reads the part of the file that the loader maps. The debug information behind it can be ten
/// times as large, and each child would keep it in memory.
fn read_image(path: &Path) -> std::result::Result<Vec<u8>, String> {
    let failed = |why: io::Error| format!("reading {}: {why}", path.display());
    let mut file = File::open(path).map_err(failed)?;
    let mut header = [0; size_of::<libc::Elf64_Ehdr>()];
    file.read_exact(&mut header).map_err(failed)?;
    // SAFETY: `header` has the size of the struct, any bytes are valid for it, and the read may be
    // unaligned.
    let mut elf = unsafe { header.as_ptr().cast::<libc::Elf64_Ehdr>().read_unaligned() };
    let mut segments = vec![0; usize::from(elf.e_phnum) * size_of::<libc::Elf64_Phdr>()];
    file.seek(io::SeekFrom::Start(elf.e_phoff)).and_then(|_| file.read_exact(&mut segments)).map_err(failed)?;
    let segments = segments.chunks_exact(size_of::<libc::Elf64_Phdr>()).map(|bytes| {
        // SAFETY: `bytes` has the size of the struct, any bytes are valid for it, and the read may
        // be unaligned.
        unsafe { bytes.as_ptr().cast::<libc::Elf64_Phdr>().read_unaligned() }
    });
    let loaded: Vec<_> = segments.filter(|segment| segment.p_type == libc::PT_LOAD).collect();
    let size = loaded.iter().map(|segment| segment.p_offset.saturating_add(segment.p_filesz)).max().unwrap_or(0);
    let mut image = Vec::new();
    file.seek(io::SeekFrom::Start(0)).and_then(|_| file.take(size).read_to_end(&mut image)).map_err(failed)?;
    if image.len() as u64 != size || !loaded.first().is_some_and(|first| is_loaded_here(&image, first)) {
        return Err(format!("{} was replaced after it was loaded; restart the program", path.display()));
    }
    // The section table is behind the part that was read.
    (elf.e_shoff, elf.e_shnum, elf.e_shstrndx) = (0, 0, 0);
    // SAFETY: `elf` consists of integers without padding, and lives until the copy below.
    let header = unsafe { std::slice::from_raw_parts((&raw const elf).cast::<u8>(), size_of_val(&elf)) };
    image[..header.len()].copy_from_slice(header);
    Ok(image)
}

/// An address in this library: of a static that no other library can define.
fn own_address() -> *const c_void {
    (&raw const COPY).cast()
}

/// The base address of the library that contains this address.
fn image_base(address: *const c_void) -> Option<*const c_void> {
    let mut information = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: `dladdr` accepts any address, and `information` is writable.
    let found = unsafe { libc::dladdr(address, information.as_mut_ptr()) } != 0;
    // SAFETY: zeros are valid, and so is what `dladdr` wrote.
    let information = unsafe { information.assume_init() };
    found.then(|| information.dli_fbase.cast_const())
}

/// Whether the first segment, which is read-only, equals the mapped one of this library. It has the
/// symbols, the relocations and the build id.
fn is_loaded_here(image: &[u8], first: &libc::Elf64_Phdr) -> bool {
    let Some(base) = image_base(own_address()) else { return false };
    let size = usize::try_from(first.p_filesz).unwrap_or(usize::MAX);
    // The ELF header is not compared, since that of a copy has no section table.
    let behind_header = size_of::<libc::Elf64_Ehdr>();
    if first.p_offset != 0 || first.p_flags & libc::PF_W != 0 || !(behind_header..=image.len()).contains(&size) {
        return false;
    }
    // SAFETY: the library's first segment is mapped at its base address, and is at least one page
    // long. If `image` is another file, its segment can be longer than the mapped one, so only the
    // first page is compared here; it has the program headers.
    let here = unsafe { std::slice::from_raw_parts(base.cast::<u8>(), 4096.min(size)) };
    if here[behind_header..] != image[behind_header..here.len()] {
        return false;
    }
    // SAFETY: the program headers are equal, so the mapped segment is as long as that of the file.
    let here = unsafe { std::slice::from_raw_parts(base.cast::<u8>(), size) };
    here[behind_header..] == image[behind_header..size]
}

// --- loading
// ------------------------------------------------------------------------------------------------------------

/// Loads the image from memory, or if the system forbids that, from a file that is removed at once.
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
    /// Required if `vm.memfd_noexec` is 1. Kernels before 6.3 reject it.
    const MFD_EXEC: u32 = 0x10;
    // SAFETY: the name is NUL-terminated.
    let create = |flags| unsafe { libc::memfd_create(c"octopus".as_ptr(), flags) };
    let mut descriptor = create(libc::MFD_CLOEXEC | MFD_EXEC);
    if descriptor < 0 {
        descriptor = create(libc::MFD_CLOEXEC);
    }
    if descriptor < 0 {
        return Err(io::Error::last_os_error().to_string());
    }
    // SAFETY: `memfd_create` opened the descriptor, and nothing else owns it.
    let mut file = unsafe { File::from_raw_fd(descriptor) };
    file.write_all(image).map_err(|why| why.to_string())?;
    // The path has the process id, because the loader identifies a library by its path: the
    // descriptor of a child can have the same number as the one of its parent had.
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
    // SAFETY: the path is NUL-terminated. The library's constructors already ran once in this
    // program, when it loaded the original.
    let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if !library.is_null() {
        return Ok(library);
    }
    // SAFETY: the result is NULL, or a text that is valid until this thread calls a function of
    // libdl again.
    let why = unsafe { libc::dlerror() };
    if why.is_null() {
        return Err("dlopen gave no reason".to_owned());
    }
    // SAFETY: `why` is not NULL, and valid as described above.
    Err(unsafe { CStr::from_ptr(why) }.to_string_lossy().into_owned())
}

/// In a forked child, returns the result of the copy's slot, or `$otherwise` if there is no copy.
/// This is the only check of a call whether the process is a child.
macro_rules! forward {
    ($otherwise:expr; $table:ident.$slot:ident($($argument:expr),* $(,)?)) => {
        if $crate::support::fork::is_forked_child() {
            // SAFETY: the copy's table lives until the process ends; the arguments satisfy the
            // contract of this slot, which is the same as that of the copy's slot.
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

/// As `forward`, for a slot that creates something: loads the copy if there is none.
macro_rules! forward_creation {
    ($table:ident.$slot:ident($($argument:expr),* $(,)?), $error:expr) => {
        if $crate::support::fork::is_forked_child() && !$crate::support::fork::adopt_if_unused() {
            // SAFETY: as in `forward`; `$error` is NULL or writable (contract of the slot).
            unsafe {
                // The C library is not usable in a child that was created without its fork
                // handlers, as by `_Fork`.
                if !$crate::support::fork::has_fork_handler_run() {
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
        $crate::support::fork::mark_used();
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
