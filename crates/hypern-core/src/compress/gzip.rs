//! gzip by zlib itself, because no safe interface reaches its `memLevel`.
//!
//! With the window alone set, as flate2 allows, a stream takes 152 KiB; the hash table and the symbol buffer that
//! `memLevel` sizes are most of it. zlib-rs has the setting, but a hash table of 128 KiB that does not follow it
//! (166 KiB a stream, at 0.4 µs an event).

use std::ffi::c_int;
use std::ptr::NonNull;

use libz_sys::{
    Z_BUF_ERROR, Z_DEFAULT_STRATEGY, Z_DEFLATED, Z_FINISH, Z_OK, Z_STREAM_END, Z_SYNC_FLUSH, deflate,
    deflateEnd, deflateInit2_, z_stream, zlibVersion,
};

/// What zlib adds to the window bits for a gzip header and trailer instead of its own.
const GZIP_FORMAT: c_int = 16;
/// The most input for one call of zlib, whose counters are 32 bits wide.
const LARGEST_INPUT: usize = 1 << 30;
/// The least room for one call, in bytes: more than a flush marker, which would otherwise come twice.
const ROOM: usize = 256;

/// zlib's knobs.
#[derive(Clone, Copy)]
pub(super) struct Settings {
    level: c_int,
    window_bits: c_int,
    memory_level: c_int,
}

impl Settings {
    /// 40 KiB, and all of it from the start.
    pub(super) const STREAM: Self = Self { level: 1, window_bits: 12, memory_level: 5 };
    /// zlib's own defaults, 264 KiB for the time of one call.
    pub(super) const WHOLE: Self = Self { level: 6, window_bits: 15, memory_level: 8 };
}

/// One gzip member.
pub(super) struct Stream {
    /// Owned, and behind a raw pointer because zlib keeps one to it.
    state: NonNull<z_stream>,
}

// SAFETY: the state is reached through this value alone, and zlib has no thread-local or global state.
unsafe impl Send for Stream {}
// SAFETY: nothing can be done with a shared reference.
unsafe impl Sync for Stream {}

impl Stream {
    pub(super) fn new(settings: Settings) -> Self {
        let state = Box::into_raw(Box::<z_stream>::new_zeroed()).cast::<z_stream>();
        let size = c_int::try_from(size_of::<z_stream>()).expect("the size of a small struct");
        // SAFETY: zlib asks for a stream that is zeroed but for the input, so that it takes its own allocator and sets
        // every other field; no reference to the struct exists before that.
        let status = unsafe {
            deflateInit2_(
                state,
                settings.level,
                Z_DEFLATED,
                settings.window_bits + GZIP_FORMAT,
                settings.memory_level,
                Z_DEFAULT_STRATEGY,
                zlibVersion(),
                size,
            )
        };
        assert_eq!(status, Z_OK, "zlib could not allocate a stream");
        Self { state: NonNull::new(state).expect("a box is not null") }
    }

    /// Appends what makes all of `input` decodable.
    pub(super) fn write_and_flush(&mut self, input: &[u8], out: &mut Vec<u8>) {
        for chunk in input.chunks(LARGEST_INPUT) {
            self.run(chunk, Z_SYNC_FLUSH, out);
        }
    }

    /// Appends `input` and the trailer.
    pub(super) fn finish(&mut self, input: &[u8], out: &mut Vec<u8>) {
        let mut chunks = input.chunks(LARGEST_INPUT).peekable();
        while let Some(chunk) = chunks.next_if(|chunk| chunk.len() == LARGEST_INPUT) {
            self.run(chunk, Z_SYNC_FLUSH, out);
        }
        self.run(chunks.next().unwrap_or_default(), Z_FINISH, out);
    }

    /// Calls zlib until it has taken `input` and left room behind its output.
    fn run(&mut self, input: &[u8], flush: c_int, out: &mut Vec<u8>) {
        let state = self.state.as_ptr();
        // SAFETY: `new` initialized the struct. zlib reads `input` and only reads it, although its type says otherwise,
        // and does not look at it after the last call, because it has taken all of it by then.
        unsafe {
            (*state).next_in = input.as_ptr().cast_mut();
            (*state).avail_in = u32::try_from(input.len()).expect("chunks of at most 2^30 bytes");
        }
        loop {
            out.reserve(input.len() / 3 + ROOM);
            let spare = out.spare_capacity_mut();
            let room = u32::try_from(spare.len()).unwrap_or(u32::MAX);
            // SAFETY: zlib writes at most `room` bytes from the start of the spare capacity and says how many it left.
            let (status, left) = unsafe {
                (*state).next_out = spare.as_mut_ptr().cast();
                (*state).avail_out = room;
                let status = deflate(state, flush);
                let left = (*state).avail_out;
                out.set_len(out.len() + (room - left) as usize);
                (status, left)
            };
            match status {
                Z_STREAM_END | Z_BUF_ERROR => break,
                Z_OK if left > 0 && flush != Z_FINISH => break,
                Z_OK => {}
                status => unreachable!("zlib refused a stream of its own: {status}"),
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let state = self.state.as_ptr();
        // SAFETY: `new` made both, and nothing uses them from here on. The status of an unfinished stream, which says
        // that data is lost, is what is meant.
        unsafe {
            deflateEnd(state);
            drop(Box::from_raw(state));
        }
    }
}
