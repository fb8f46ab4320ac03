//! SPDY/3.1 frames to bytes and back. Pure: no sockets here.

use super::dictionary;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

const VERSION: u16 = 3;
const FIN: u8 = 1;
const UNIDIRECTIONAL: u8 = 2;
/// Longest frame accepted; peers send 32 KiB at a time.
const MAX_FRAME: usize = 4 << 20;
/// Longest header block accepted, unpacked.
const MAX_HEADERS: usize = 256 << 10;

/// Names (lower case) with their values, in order.
pub type Headers = Vec<(String, String)>;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Opens a stream.
    SynStream {
        /// stream id, odd from the client
        id: u32,
        /// stream this one belongs to, or 0
        associated: u32,
        /// 0 (highest) to 7
        priority: u8,
        /// the opener will send nothing
        fin: bool,
        /// the other side may send nothing
        unidirectional: bool,
        /// headers
        headers: Headers,
    },
    /// Accepts a stream.
    SynReply {
        /// stream id
        id: u32,
        /// the accepter will send nothing
        fin: bool,
        /// headers
        headers: Headers,
    },
    /// Ends a stream at once.
    RstStream {
        /// stream id
        id: u32,
        /// reason
        status: u32,
    },
    /// To be answered with the same id when the other side chose it.
    Ping {
        /// odd from the client
        id: u32,
    },
    /// No new streams.
    GoAway {
        /// last stream accepted
        last: u32,
        /// reason, 0 is fine
        status: u32,
    },
    /// More headers of a stream.
    Headers {
        /// stream id
        id: u32,
        /// nothing follows
        fin: bool,
        /// headers
        headers: Headers,
    },
    /// A frame without meaning for us (settings, window updates, unknown kinds).
    Other {
        /// control frame type
        kind: u16,
    },
    /// Bytes of a stream.
    Data {
        /// stream id
        id: u32,
        /// nothing follows
        fin: bool,
        /// payload
        data: Bytes,
    },
}

/// What makes a byte stream unusable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not SPDY/3.
    #[error("unsupported SPDY version {0}")]
    Version(u16),
    /// Over the limit.
    #[error("SPDY frame of {0} bytes is too large")]
    TooLarge(usize),
    /// Shorter than its kind needs.
    #[error("truncated SPDY control frame of type {0}")]
    Truncated(u16),
    /// A header block that cannot be unpacked.
    #[error("bad SPDY header block: {0}")]
    Headers(&'static str),
}

/// Frames to bytes; owns the compression state of one direction.
pub struct Encoder {
    zlib: Compress,
}

impl Default for Encoder {
    fn default() -> Self {
        let mut zlib = Compress::new(Compression::best(), true);
        // Only fails on a stream that has begun.
        let _ = zlib.set_dictionary(&dictionary::bytes());
        Self { zlib }
    }
}

impl Encoder {
    /// Appends `frame` to `out`.
    pub fn encode(&mut self, frame: &Frame, out: &mut BytesMut) -> Result<(), FrameError> {
        match frame {
            Frame::Data { id, fin, data } => put_data(out, *id, *fin, data),
            Frame::SynStream { id, associated, priority, fin, unidirectional, headers } => {
                let block = self.pack(headers)?;
                let flags = flag(*fin, FIN) | flag(*unidirectional, UNIDIRECTIONAL);
                control(out, 1, flags, 10 + block.len());
                out.put_u32(*id);
                out.put_u32(*associated);
                out.put_u8(*priority << 5);
                out.put_u8(0);
                out.put_slice(&block);
            }
            Frame::SynReply { id, fin, headers } => self.put_headers(out, 2, *id, *fin, headers)?,
            Frame::Headers { id, fin, headers } => self.put_headers(out, 8, *id, *fin, headers)?,
            Frame::RstStream { id, status } => put_pair(out, 3, *id, *status),
            Frame::GoAway { last, status } => put_pair(out, 7, *last, *status),
            Frame::Ping { id } => {
                control(out, 6, 0, 4);
                out.put_u32(*id);
            }
            Frame::Other { .. } => {}
        }
        Ok(())
    }

    fn put_headers(
        &mut self,
        out: &mut BytesMut,
        kind: u16,
        id: u32,
        fin: bool,
        headers: &Headers,
    ) -> Result<(), FrameError> {
        let block = self.pack(headers)?;
        control(out, kind, flag(fin, FIN), 4 + block.len());
        out.put_u32(id);
        out.put_slice(&block);
        Ok(())
    }

    fn pack(&mut self, headers: &Headers) -> Result<Vec<u8>, FrameError> {
        let plain = plain_block(headers);
        let mut out = Vec::with_capacity(plain.len() + 64);
        let start = self.zlib.total_in();
        loop {
            let done = (self.zlib.total_in() - start) as usize;
            let rest = plain.get(done..).unwrap_or_default();
            self.zlib
                .compress_vec(rest, &mut out, FlushCompress::Sync)
                .map_err(|_| FrameError::Headers("compression"))?;
            let consumed = (self.zlib.total_in() - start) as usize >= plain.len();
            // A flush is complete only when room was left over.
            if consumed && out.len() < out.capacity() {
                return Ok(out);
            }
            out.reserve(256);
        }
    }
}

fn flag(on: bool, bit: u8) -> u8 {
    if on { bit } else { 0 }
}

fn control(out: &mut BytesMut, kind: u16, flags: u8, len: usize) {
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    out.put_u32((u32::from(flags) << 24) | (len as u32 & 0x00ff_ffff));
}

fn put_pair(out: &mut BytesMut, kind: u16, a: u32, b: u32) {
    control(out, kind, 0, 8);
    out.put_u32(a);
    out.put_u32(b);
}

fn put_data(out: &mut BytesMut, id: u32, fin: bool, data: &Bytes) {
    out.reserve(8 + data.len());
    out.put_u32(id & 0x7fff_ffff);
    out.put_u32((u32::from(flag(fin, FIN)) << 24) | (data.len() as u32 & 0x00ff_ffff));
    out.put_slice(data);
}

/// Values of one name are joined by NUL, as the protocol wants names to be unique.
fn plain_block(headers: &Headers) -> Vec<u8> {
    let mut merged: Vec<(String, String)> = Vec::new();
    for (name, value) in headers {
        let name = name.to_ascii_lowercase();
        match merged.iter_mut().find(|(n, _)| *n == name) {
            Some((_, joined)) => {
                joined.push('\0');
                joined.push_str(value);
            }
            None => merged.push((name, value.clone())),
        }
    }
    let mut out = (merged.len() as u32).to_be_bytes().to_vec();
    for text in merged.iter().flat_map(|(n, v)| [n, v]) {
        out.extend_from_slice(&(text.len() as u32).to_be_bytes());
        out.extend_from_slice(text.as_bytes());
    }
    out
}

/// Bytes to frames; owns the decompression state of one direction.
pub struct Decoder {
    zlib: Decompress,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { zlib: Decompress::new(true) }
    }
}

impl Decoder {
    /// Takes one whole frame off the front of `buf`; None when more bytes are needed.
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let Some(head) = buf.first_chunk::<8>() else { return Ok(None) };
        let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let second = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        let (flags, len) = ((second >> 24) as u8, (second & 0x00ff_ffff) as usize);
        if len > MAX_FRAME {
            return Err(FrameError::TooLarge(len));
        }
        if buf.len() < 8 + len {
            buf.reserve(8 + len - buf.len());
            return Ok(None);
        }
        buf.advance(8);
        let body = buf.split_to(len).freeze();
        if first & 0x8000_0000 == 0 {
            return Ok(Some(Frame::Data { id: first, fin: flags & FIN != 0, data: body }));
        }
        let version = ((first >> 16) & 0x7fff) as u16;
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        self.control((first & 0xffff) as u16, flags, body).map(Some)
    }

    fn control(&mut self, kind: u16, flags: u8, mut body: Bytes) -> Result<Frame, FrameError> {
        let need = match kind {
            1 => 10,
            3 | 7 => 8,
            2 | 6 | 8 => 4,
            _ => return Ok(Frame::Other { kind }),
        };
        if body.len() < need {
            return Err(FrameError::Truncated(kind));
        }
        let id = body.get_u32();
        let fin = flags & FIN != 0;
        Ok(match kind {
            1 => {
                let associated = body.get_u32();
                let priority = body.get_u8() >> 5;
                body.advance(1);
                let unidirectional = flags & UNIDIRECTIONAL != 0;
                let headers = self.unpack(&body)?;
                Frame::SynStream { id, associated, priority, fin, unidirectional, headers }
            }
            2 => Frame::SynReply { id, fin, headers: self.unpack(&body)? },
            3 => Frame::RstStream { id, status: body.get_u32() },
            6 => Frame::Ping { id },
            7 => Frame::GoAway { last: id, status: body.get_u32() },
            _ => Frame::Headers { id, fin, headers: self.unpack(&body)? },
        })
    }

    fn unpack(&mut self, packed: &[u8]) -> Result<Headers, FrameError> {
        let mut out: Vec<u8> = Vec::with_capacity(1024);
        let mut rest = packed;
        while !rest.is_empty() {
            if out.len() > MAX_HEADERS {
                return Err(FrameError::Headers("too large"));
            }
            if out.len() == out.capacity() {
                out.reserve(1024);
            }
            let (before_in, before_out) = (self.zlib.total_in(), out.len());
            let result = self.zlib.decompress_vec(rest, &mut out, FlushDecompress::Sync);
            let used = (self.zlib.total_in() - before_in) as usize;
            rest = rest.get(used..).unwrap_or_default();
            match result {
                Err(e) if e.needs_dictionary().is_some() => self.give_dictionary()?,
                Err(_) => return Err(FrameError::Headers("corrupt")),
                Ok(Status::StreamEnd) => break,
                Ok(_) if used == 0 && out.len() == before_out && out.len() < out.capacity() => {
                    return Err(FrameError::Headers("stuck"));
                }
                Ok(_) => {}
            }
        }
        self.drain(&mut out)?;
        parse_block(&out)
    }

    /// The last bytes may still sit in the inflater when the output had just filled up.
    fn drain(&mut self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        while out.len() == out.capacity() {
            if out.len() > MAX_HEADERS {
                return Err(FrameError::Headers("too large"));
            }
            out.reserve(1024);
            let before = out.len();
            let _ = self.zlib.decompress_vec(&[], out, FlushDecompress::Sync);
            if out.len() == before {
                break;
            }
        }
        Ok(())
    }

    fn give_dictionary(&mut self) -> Result<(), FrameError> {
        let given = self.zlib.set_dictionary(&dictionary::bytes());
        given.map(|_| ()).map_err(|_| FrameError::Headers("foreign dictionary"))
    }
}

fn parse_block(mut block: &[u8]) -> Result<Headers, FrameError> {
    let count = take_u32(&mut block)?;
    let mut headers = Vec::new();
    for _ in 0..count {
        let name = take_text(&mut block)?;
        let values = take_text(&mut block)?;
        for value in values.split('\0') {
            headers.push((name.clone(), value.to_string()));
        }
    }
    Ok(headers)
}

fn take_u32(block: &mut &[u8]) -> Result<u32, FrameError> {
    let (head, rest) = block.split_first_chunk::<4>().ok_or(FrameError::Headers("short"))?;
    *block = rest;
    Ok(u32::from_be_bytes(*head))
}

fn take_text(block: &mut &[u8]) -> Result<String, FrameError> {
    let len = take_u32(block)? as usize;
    let (head, rest) = block.split_at_checked(len).ok_or(FrameError::Headers("short"))?;
    *block = rest;
    Ok(String::from_utf8_lossy(head).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        pairs.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect()
    }

    fn syn(id: u32, pairs: &[(&str, &str)]) -> Frame {
        let headers = headers(pairs);
        Frame::SynStream { id, associated: 0, priority: 0, fin: false, unidirectional: false, headers }
    }

    fn all() -> Vec<Frame> {
        vec![
            syn(1, &[("streamtype", "error")]),
            syn(3, &[("streamtype", "data"), ("port", "8080"), ("requestid", "0")]),
            Frame::SynReply { id: 1, fin: false, headers: vec![] },
            Frame::Headers { id: 3, fin: true, headers: headers(&[("a", "b"), ("a", "c")]) },
            Frame::Data { id: 3, fin: false, data: Bytes::from_static(b"hello") },
            Frame::Data { id: 3, fin: true, data: Bytes::new() },
            Frame::RstStream { id: 3, status: 5 },
            Frame::Ping { id: 7 },
            Frame::GoAway { last: 3, status: 0 },
        ]
    }

    #[test]
    fn every_frame_comes_back_also_byte_by_byte() {
        let (mut enc, mut dec) = (Encoder::default(), Decoder::default());
        let mut wire = BytesMut::new();
        for frame in all() {
            enc.encode(&frame, &mut wire).unwrap();
        }
        let (mut buf, mut seen) = (BytesMut::new(), vec![]);
        for byte in wire {
            buf.put_u8(byte);
            seen.extend(dec.decode(&mut buf).unwrap());
        }
        assert_eq!(seen, all());
    }

    #[test]
    fn a_stream_opens_with_the_bytes_the_draft_gives() {
        let mut wire = BytesMut::new();
        Encoder::default().encode(&syn(1, &[("streamtype", "stdin")]), &mut wire).unwrap();
        assert_eq!(&wire[..4], [0x80, 3, 0, 1]);
        assert_eq!(wire[4], 0);
        assert_eq!(&wire[8..18], [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        // zlib header with FDICT, then the dictionary's sum, then a sync flush at the end
        assert_eq!(wire[18] & 0x0f, 8);
        assert_eq!(wire[19] & 0x20, 0x20);
        assert_eq!(&wire[20..24], [0xe3, 0xc6, 0xa7, 0xc2]);
        assert_eq!(&wire[wire.len() - 4..], [0, 0, 0xff, 0xff]);
    }

    #[test]
    fn long_header_values_survive_the_output_steps() {
        let (mut enc, mut dec) = (Encoder::default(), Decoder::default());
        for len in [900, 1016, 1023, 1024, 1025, 5000, 40_000] {
            let value: String = (0..len).map(|i| char::from(b'a' + ((i * i) % 23) as u8)).collect();
            let frame = syn(9, &[("x", &value)]);
            let mut wire = BytesMut::new();
            enc.encode(&frame, &mut wire).unwrap();
            assert_eq!(dec.decode(&mut wire).unwrap(), Some(frame));
        }
    }

    #[test]
    fn foreign_versions_and_sizes_are_refused() {
        let mut wire = BytesMut::from(&[0x80u8, 2, 0, 1, 0, 0, 0, 0][..]);
        assert_eq!(Decoder::default().decode(&mut wire), Err(FrameError::Version(2)));
        let mut wire = BytesMut::from(&[0x80u8, 3, 0, 3, 0, 0, 0, 2, 1, 1][..]);
        assert_eq!(Decoder::default().decode(&mut wire), Err(FrameError::Truncated(3)));
        let mut wire = BytesMut::from(&[0u8, 0, 0, 1, 0, 0xff, 0xff, 0xff][..]);
        assert_eq!(Decoder::default().decode(&mut wire), Err(FrameError::TooLarge(0xff_ffff)));
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut buf = BytesMut::from(&bytes[..]);
            let mut dec = Decoder::default();
            while let Ok(Some(_)) = dec.decode(&mut buf) {}
        }

        #[test]
        fn foreign_header_blocks_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut good = BytesMut::new();
            Encoder::default().encode(&syn(1, &[("streamtype", "error")]), &mut good).unwrap();
            let mut buf = BytesMut::new();
            control(&mut buf, 2, 0, 4 + bytes.len());
            buf.put_u32(1);
            buf.put_slice(&bytes);
            let mut dec = Decoder::default();
            let _ = dec.decode(&mut good);
            let _ = dec.decode(&mut buf);
        }
    }
}
