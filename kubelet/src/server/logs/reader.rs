//! Reading a log file from the right place to its end, or on and on.

use super::follow::{FileWatch, Follow};
use super::line;
use super::options::LogOptions;
use super::writer::LineWriter;
use bytes::Bytes;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, SeekFrom};
use tokio::sync::mpsc;

const CHUNK: usize = 64 << 10;
/// A raw line longer than this is given out in pieces; runtimes cut at 16 KiB.
const MAX_LINE: usize = 4 << 20;

/// Writes the log at `path` to `out` as `options` ask. `follow` says when the container has ended; it is only
/// asked when `options.follow` is set. Ends early, without an error, when the receiver is gone.
pub async fn read_logs(
    path: &Path,
    options: &LogOptions,
    follow: impl Follow,
    out: &mpsc::Sender<Bytes>,
) -> io::Result<()> {
    // The watch is set before the first read, so that nothing falls between.
    let watch = if options.follow { Some(FileWatch::new(path)?) } else { None };
    let mut file = File::open(path).await?;
    if let Some(lines) = options.tail_lines {
        let start = tail_start(&mut file, lines).await?;
        file.seek(SeekFrom::Start(start)).await?;
    }
    let mut state = Reading { writer: LineWriter::new(options), rest: Vec::new(), out };
    let Some(mut watch) = watch else {
        state.read_on(&mut file).await?;
        state.flush_rest().await;
        return Ok(());
    };
    following(path, &mut file, &mut watch, follow, &mut state).await
}

async fn following(
    path: &Path,
    file: &mut File,
    watch: &mut FileWatch,
    mut follow: impl Follow,
    state: &mut Reading<'_>,
) -> io::Result<()> {
    loop {
        // Asked before reading: what was written before the end is then read for sure.
        let ended = follow.ended();
        if !state.read_on(file).await? {
            return Ok(());
        }
        if rotated(path, file).await {
            // The old file may have got its last lines after we came to its end.
            if !state.read_on(file).await? {
                return Ok(());
            }
            *file = File::open(path).await?;
            watch.renew(path)?;
            continue;
        }
        if ended {
            state.flush_rest().await;
            return Ok(());
        }
        tokio::select! {
            changed = watch.changed() => changed?,
            () = follow.changed() => {}
            () = state.out.closed() => return Ok(()),
        }
    }
}

/// Does the path name another file by now? While the new one is not there yet, no.
async fn rotated(path: &Path, file: &File) -> bool {
    let (Ok(now), Ok(ours)) = (tokio::fs::metadata(path).await, file.metadata().await) else { return false };
    (now.dev(), now.ino()) != (ours.dev(), ours.ino())
}

struct Reading<'a> {
    writer: LineWriter<'a>,
    rest: Vec<u8>,
    out: &'a mpsc::Sender<Bytes>,
}

impl Reading<'_> {
    /// Reads to the present end of the file. False when nobody wants more.
    async fn read_on(&mut self, file: &mut File) -> io::Result<bool> {
        loop {
            self.rest.reserve(CHUNK);
            if file.read_buf(&mut self.rest).await? == 0 {
                return Ok(true);
            }
            if !self.lines().await {
                return Ok(false);
            }
        }
    }

    /// Gives out all whole lines.
    async fn lines(&mut self) -> bool {
        let end = match self.rest.iter().rposition(|b| *b == b'\n') {
            Some(at) => at + 1,
            None if self.rest.len() > MAX_LINE => self.rest.len(),
            None => return true,
        };
        let whole: Vec<u8> = self.rest.drain(..end).collect();
        self.give(&whole).await
    }

    /// Gives out a last line without a newline, if it says anything.
    async fn flush_rest(&mut self) {
        let rest = std::mem::take(&mut self.rest);
        self.give(&rest).await;
    }

    async fn give(&mut self, whole: &[u8]) -> bool {
        let mut text = Vec::with_capacity(whole.len());
        let mut more = true;
        for raw in whole.split_inclusive(|b| *b == b'\n') {
            let Some(line) = line::parse(raw) else { continue };
            more = self.writer.write(&line, &mut text);
            if !more {
                break;
            }
        }
        if text.is_empty() {
            return more;
        }
        self.out.send(text.into()).await.is_ok() && more
    }
}

/// Offset where the last `lines` lines of the file begin. A last line without newline counts as one.
async fn tail_start(file: &mut File, lines: u64) -> io::Result<u64> {
    let end = file.seek(SeekFrom::End(0)).await?;
    if lines == 0 {
        return Ok(end);
    }
    let (mut at, mut found) = (end, 0u64);
    let mut chunk = vec![0u8; CHUNK];
    while at > 0 {
        let from = at.saturating_sub(CHUNK as u64);
        let part = chunk.get_mut(..(at - from) as usize).unwrap_or_default();
        file.seek(SeekFrom::Start(from)).await?;
        file.read_exact(part).await?;
        for (i, _) in part.iter().enumerate().rev().filter(|(_, b)| **b == b'\n') {
            let after = from + i as u64 + 1;
            // The newline that ends the file ends its last line and begins none.
            if after == end {
                continue;
            }
            found += 1;
            if found == lines {
                return Ok(after);
            }
        }
        at = from;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::super::follow::Never;
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;
    use tokio::sync::watch;

    fn raw(text: &str) -> String {
        text.split_inclusive('\n').map(|l| format!("2026-01-01T00:00:00Z stdout F {l}")).collect()
    }

    async fn read(content: &[u8], options: LogOptions) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, content).unwrap();
        let (tx, mut rx) = mpsc::channel(1000);
        read_logs(&path, &options, Never, &tx).await.unwrap();
        drop(tx);
        let mut all = vec![];
        while let Some(chunk) = rx.recv().await {
            all.extend_from_slice(&chunk);
        }
        String::from_utf8_lossy(&all).into_owned()
    }

    #[tokio::test]
    async fn tail_counts_lines_from_the_end() {
        let log = raw("a\nb\nc\n");
        for (lines, want) in [(0, ""), (1, "c\n"), (2, "b\nc\n"), (3, "a\nb\nc\n"), (9, "a\nb\nc\n")] {
            let options = LogOptions { tail_lines: Some(lines), ..Default::default() };
            assert_eq!(read(log.as_bytes(), options).await, want, "{lines}");
        }
        let options = LogOptions { tail_lines: Some(2), ..Default::default() };
        assert_eq!(read(raw("a\nb\nc").as_bytes(), options).await, "b\nc");
    }

    #[tokio::test]
    async fn tail_finds_lines_across_chunks() {
        let text: String = (0..9000).map(|i| format!("line {i}\n")).collect();
        let options = LogOptions { tail_lines: Some(5000), ..Default::default() };
        let got = read(raw(&text).as_bytes(), options).await;
        assert_eq!((got.lines().next(), got.lines().count()), (Some("line 4000"), 5000));
    }

    #[tokio::test]
    async fn lines_of_no_known_format_are_left_out() {
        let log = format!("rubbish\n{}\0\0\n{}", raw("a\n"), raw("b\n"));
        assert_eq!(read(log.as_bytes(), LogOptions::default()).await, "a\nb\n");
    }

    /// A container that ends when told.
    struct Until(watch::Receiver<bool>);

    impl Follow for Until {
        fn ended(&mut self) -> bool {
            *self.0.borrow_and_update()
        }

        async fn changed(&mut self) {
            if self.0.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    async fn expect(rx: &mut mpsc::Receiver<Bytes>, want: &str) {
        let mut got = String::new();
        while got.len() < want.len() {
            got.push_str(std::str::from_utf8(&rx.recv().await.unwrap()).unwrap());
        }
        assert_eq!(got, want);
    }

    #[tokio::test]
    async fn following_sees_appends_rotation_and_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, raw("a\n")).unwrap();
        let (tx, mut rx) = mpsc::channel(10);
        let (end, ended) = watch::channel(false);
        let (p, options) = (path.clone(), LogOptions { follow: true, ..Default::default() });
        let reading = tokio::spawn(async move { read_logs(&p, &options, Until(ended), &tx).await });
        expect(&mut rx, "a\n").await;
        let mut old = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        old.write_all(raw("b\n").as_bytes()).unwrap();
        expect(&mut rx, "b\n").await;
        std::fs::rename(&path, dir.path().join("0.log.20260101-000000")).unwrap();
        old.write_all(raw("c\n").as_bytes()).unwrap();
        expect(&mut rx, "c\n").await;
        std::fs::write(&path, raw("d\n")).unwrap();
        expect(&mut rx, "d\n").await;
        let mut new = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        new.write_all(raw("e\nf").as_bytes()).unwrap();
        expect(&mut rx, "e\n").await;
        end.send(true).unwrap();
        expect(&mut rx, "f").await;
        reading.await.unwrap().unwrap();
        assert_eq!(rx.recv().await, None);
    }

    #[tokio::test]
    async fn following_ends_with_its_reader() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, "").unwrap();
        let (tx, rx) = mpsc::channel(1);
        drop(rx);
        let options = LogOptions { follow: true, ..Default::default() };
        read_logs(&path, &options, Never, &tx).await.unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn foreign_files_never_panic(content in proptest::collection::vec(any::<u8>(), 0..500), tail in 0u64..5) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let options = LogOptions { tail_lines: Some(tail), timestamps: true, ..Default::default() };
            runtime.block_on(read(&content, options));
        }
    }
}
