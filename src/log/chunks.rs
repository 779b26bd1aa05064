//! The memory of a log: its bytes, in as few pieces as possible.
//!
//! Small frames are copied to the end of a chunk, so that one slice can cover many of them. A large
//! frame is a chunk of its own that shares the memory of the published event. The chunks do not
//! know where frames begin and end: that is the log's index.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::event_stream::frame::{BytesRef, SHARE_FROM};

use super::position::Offset;
use super::slices::Slices;

/// The largest chunk of small frames, in bytes.
const MAX_CHUNK: usize = 96 << 10;

/// The bytes of a log from its first retained frame on.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    list: VecDeque<Chunk>,
    /// Memory that the bytes of the chunks take.
    memory: usize,
    /// The log's end when it was last empty.
    empty_at: Offset,
    /// Bytes appended between the last two times that the log was empty: what the next chunk should
    /// have room for.
    expected_bytes: usize,
}

/// Adjacent bytes in one piece of memory.
#[derive(Debug)]
struct Chunk {
    /// Offset of the first byte.
    start: Offset,
    bytes: ChunkBytes,
}

#[derive(Debug)]
enum ChunkBytes {
    /// Small frames, one after the other.
    Copied(Vec<u8>),
    /// One large frame.
    Shared(Bytes),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match &self.bytes {
            ChunkBytes::Copied(bytes) => bytes,
            ChunkBytes::Shared(bytes) => bytes,
        }
    }

    /// Offset after the last byte.
    fn end(&self) -> Offset {
        self.start + self.bytes().len()
    }

    /// Memory that the bytes take.
    fn memory(&self) -> usize {
        match &self.bytes {
            ChunkBytes::Copied(bytes) => bytes.capacity(),
            ChunkBytes::Shared(bytes) => bytes.len(),
        }
    }
}

impl Chunks {
    /// Appends a frame and the prefix that goes out before it. `start` is the offset after the last
    /// byte so far, `retained` the number of bytes that the log retains.
    pub(super) fn append(
        &mut self,
        start: Offset,
        prefix: &[u8],
        frame: BytesRef<'_>,
        retained: usize,
    ) {
        let frame = match frame {
            BytesRef::Bytes(frame) if frame.len() >= SHARE_FROM => frame,
            _ => return self.copy(start, prefix, &frame, retained),
        };
        if !prefix.is_empty() {
            self.copy(start, prefix, &[], retained);
        }
        self.push(Chunk {
            start: start + prefix.len(),
            bytes: ChunkBytes::Shared(frame.clone()),
        });
    }

    /// Copies bytes to the end of the last chunk, or to a new one if they do not fit.
    fn copy(&mut self, start: Offset, prefix: &[u8], frame: &[u8], retained: usize) {
        let bytes = prefix.len() + frame.len();
        if let Some(Chunk {
            bytes: ChunkBytes::Copied(chunk),
            ..
        }) = self.list.back_mut()
            && chunk.capacity() - chunk.len() >= bytes
        {
            chunk.extend_from_slice(prefix);
            chunk.extend_from_slice(frame);
            return;
        }
        // A second chunk is a second slice of each write. A quarter more than last time is mostly
        // enough for one; a log that is never empty doubles.
        let expected = self.expected_bytes + self.expected_bytes / 4;
        let room = expected.max(retained).min(MAX_CHUNK).max(bytes);
        let mut chunk = Vec::with_capacity(room);
        chunk.extend_from_slice(prefix);
        chunk.extend_from_slice(frame);
        self.push(Chunk {
            start,
            bytes: ChunkBytes::Copied(chunk),
        });
    }

    fn push(&mut self, chunk: Chunk) {
        self.memory += chunk.memory();
        self.list.push_back(chunk);
    }

    /// Appends at most `max` bytes from an offset on to `slices`, while those have room. Returns
    /// the offset after them.
    pub(super) fn gather<'a>(
        &'a self,
        mut from: Offset,
        max: usize,
        slices: &mut Slices<'a>,
    ) -> Offset {
        let first = self.list.partition_point(|chunk| chunk.end() <= from);
        let mut left = max;
        for chunk in self.list.range(first..) {
            if left == 0 {
                break;
            }
            let rest = &chunk.bytes()[(from - chunk.start) as usize..];
            let taken = rest.len().min(left);
            if !slices.push(&rest[..taken]) {
                break;
            }
            from += taken;
            left -= taken;
        }
        from
    }

    /// Memory that the chunks take.
    pub(super) fn memory(&self) -> usize {
        self.memory + self.list.len() * size_of::<Chunk>()
    }

    /// Offset after the last byte of the first chunk.
    pub(super) fn first_end(&self) -> Option<Offset> {
        self.list.front().map(Chunk::end)
    }

    /// Frees the chunks that end at or before an offset.
    pub(super) fn drop_before(&mut self, offset: Offset) {
        while let Some(chunk) = self.list.pop_front_if(|chunk| chunk.end() <= offset) {
            self.memory -= chunk.memory();
        }
    }

    /// Frees all chunks of a log that ends at an offset.
    pub(super) fn clear(&mut self, end: Offset) {
        self.expected_bytes = (end - self.empty_at).min(MAX_CHUNK as u64) as usize;
        self.empty_at = end;
        self.list.clear();
        self.list.shrink_to(1);
        self.memory = 0;
    }

    /// Asserts that the chunks are adjacent and cover the bytes from `start` to `end`, and that
    /// their memory is what is counted.
    pub(super) fn check(&self, start: Offset, end: Offset) {
        let mut next = self.list.front().map_or(end, |chunk| chunk.start);
        assert!(next <= start, "the first retained byte is in a chunk");
        for chunk in &self.list {
            assert_eq!(chunk.start, next, "chunks are adjacent");
            next = chunk.end();
            assert!(next > start, "a chunk without retained bytes is freed");
        }
        assert_eq!(next, end, "the last chunk ends where the log ends");
        let memory = self.list.iter().map(Chunk::memory).sum::<usize>();
        assert_eq!(self.memory, memory, "the memory of the chunks");
    }
}
