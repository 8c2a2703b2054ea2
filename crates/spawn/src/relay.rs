//! Passes on what a container writes, and what it is to read, between conmon and whoever has attached.
//!
//! conmon sends a packet for each piece of output, whose first byte says which stream it is, and takes
//! each packet for input. While it cannot send it does nothing else, and does not even notice that the
//! container has ended. So nobody who is slow keeps it waiting once that is the case.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

use crate::Stdin;

/// Longer than any packet of conmon's: 8 KiB and a byte.
const MAX_PACKET: usize = 64 << 10;
/// The longest packet that every conmon reads as a whole, in bytes.
const MAX_INPUT: usize = 8 << 10;
/// How much waits for a reader that is slow before the container waits, too, in bytes.
const HIGH: usize = 256 << 10;
/// How much waits for one once the container has ended, in bytes; a reader that is even slower is cut
/// off. The container's pipes hold 1 MiB each at most, unless root has changed that.
const HIGH_AT_END: usize = 4 << 20;
/// What the packets of standard output and error begin with.
const STREAMS: [u8; 2] = [2, 3];
/// How long it waits there until whoever does not read it is cut off: it keeps a thread, and memory.
const LINGER: Duration = Duration::from_secs(600);
/// Whoever goes away closes all within this time.
const GOING: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// One who has attached.
#[derive(Debug)]
pub(crate) struct Relay {
    conmon: Conmon,
    /// Of the container's first process.
    init: OwnedFd,
    stdin: Stdin,
    input: Input,
    outputs: [Option<Output>; 2],
    /// Whether somebody reads, or did.
    is_read: bool,
    /// Once the container has ended: when those are cut off who have not read all.
    end: Option<Instant>,
    linger: Duration,
}

#[derive(Debug)]
struct Conmon {
    socket: OwnedFd,
    is_gone: bool,
    packet: Vec<u8>,
}

/// What the container is to read.
#[derive(Debug)]
struct Input {
    pipe: Option<File>,
    /// What was read of that and not yet sent.
    waiting: Vec<u8>,
    state: Typing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Typing {
    GoesOn,
    /// Its end has been read.
    Ended,
    /// That has been said.
    Over,
}

/// Where output goes.
#[derive(Debug)]
struct Output {
    pipe: File,
    waiting: VecDeque<u8>,
}

/// What something is ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ready {
    Conmon,
    Init,
    Output(usize),
    Input,
}

impl Relay {
    /// `conmon` is a connection to it; neither that nor any of the pipes blocks. `input` is `None` if
    /// there is to be none from here, which is not its end.
    pub(crate) fn new(
        conmon: OwnedFd,
        init: OwnedFd,
        stdin: Stdin,
        input: Option<File>,
        outputs: [Option<File>; 2],
    ) -> Self {
        let output = |pipe| Output { pipe, waiting: VecDeque::new() };
        let outputs = outputs.map(|pipe| pipe.map(output));
        Self {
            conmon: Conmon { socket: conmon, is_gone: false, packet: vec![0; MAX_PACKET] },
            init,
            stdin,
            input: Input { pipe: input, waiting: Vec::new(), state: Typing::GoesOn },
            is_read: outputs.iter().any(Option::is_some),
            outputs,
            end: None,
            linger: LINGER,
        }
    }

    /// Passes on until either side has gone.
    ///
    /// # Errors
    ///
    /// If something cannot be waited for.
    pub(crate) fn run(mut self) -> io::Result<()> {
        if !self.is_read {
            // conmon sends nothing then.
            let _ = shutdown(&self.conmon.socket, Shutdown::Read);
        }
        while self.has_work() {
            let ready = self.wait()?;
            if self.left().is_some_and(|left| left.is_zero()) {
                break;
            }
            for (ready, flags) in ready {
                match ready {
                    Ready::Conmon if !flags.difference(PollFlags::OUT).is_empty() => self.hear(),
                    Ready::Conmon => {}
                    Ready::Init => self.end = Some(Instant::now() + self.linger),
                    Ready::Output(at) => self.write(at, flags),
                    Ready::Input => self.input.read(),
                }
            }
            self.send();
        }
        self.leave()
    }

    fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// How long those who read have left, if that is known.
    fn left(&self) -> Option<Duration> {
        self.end.map(|end| end.saturating_duration_since(Instant::now()))
    }

    fn has_work(&self) -> bool {
        if self.is_read {
            self.has_readers()
        } else {
            !self.has_ended() && self.input.state != Typing::Over && self.input.is_used()
        }
    }

    fn has_readers(&self) -> bool {
        self.outputs.iter().any(Option::is_some)
    }

    /// conmon takes the end of any connection for the end of the container's input. That of somebody who
    /// has only gone away is none: the connection is kept, and nothing is sent on it.
    fn leave(self) -> io::Result<()> {
        if self.conmon.is_gone || self.stdin != Stdin::Open || self.input.state == Typing::Over {
            return Ok(());
        }
        let _ = shutdown(&self.conmon.socket, Shutdown::Read);
        let Self { conmon: Conmon { socket: _kept, .. }, init, outputs, input, .. } = self;
        drop((outputs, input));
        let mut polled = [PollFd::new(&init, PollFlags::IN)];
        while polled[0].revents().is_empty() {
            wait_for(&mut polled, None)?;
        }
        Ok(())
    }

    fn wait(&self) -> io::Result<Vec<(Ready, PollFlags)>> {
        let asked = self.asked();
        let mut polled: Vec<_> =
            asked.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        let left = self.left().map(Timespec::try_from).transpose().map_err(io::Error::other)?;
        wait_for(&mut polled, left.as_ref())?;
        let ready = asked.iter().zip(&polled).map(|((ready, ..), fd)| (*ready, fd.revents()));
        Ok(ready.filter(|(_, flags)| !flags.is_empty()).collect())
    }

    /// What is waited for. Outputs come before the input: who has gone away is known before its end is.
    fn asked(&self) -> Vec<(Ready, BorrowedFd<'_>, PollFlags)> {
        let mut asked = Vec::new();
        for (at, output) in self.outputs.iter().enumerate() {
            let Some(Output { pipe, waiting }) = output else { continue };
            // That nobody reads it any more is told in any case.
            let flags = if waiting.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            asked.push((Ready::Output(at), pipe.as_fd(), flags));
        }
        let mut of_conmon = PollFlags::empty();
        of_conmon.set(PollFlags::IN, self.is_read && self.has_room());
        of_conmon.set(PollFlags::OUT, !self.input.waiting.is_empty());
        if !self.conmon.is_gone && !of_conmon.is_empty() {
            asked.push((Ready::Conmon, self.conmon.socket.as_fd(), of_conmon));
        }
        if !self.has_ended() {
            asked.push((Ready::Init, self.init.as_fd(), PollFlags::IN));
        }
        if let Some(pipe) = self.input.pipe.as_ref().filter(|_| self.input.waiting.is_empty()) {
            asked.push((Ready::Input, pipe.as_fd(), PollFlags::IN));
        }
        asked
    }

    fn has_room(&self) -> bool {
        self.has_ended() || self.outputs.iter().flatten().all(|output| output.waiting.len() < HIGH)
    }

    fn hear(&mut self) {
        let has_ended = self.has_ended();
        let Some((stream, bytes)) = self.conmon.receive() else { return self.close_drained() };
        let Some(at) = STREAMS.iter().position(|it| *it == stream) else { return };
        let Some(output) = &mut self.outputs[at] else { return };
        output.waiting.extend(bytes);
        if output.pass_on() && !(has_ended && output.waiting.len() > HIGH_AT_END) {
            return;
        }
        self.outputs[at] = None;
    }

    /// Once conmon has gone, whoever has read all is told so.
    fn close_drained(&mut self) {
        if self.conmon.is_gone {
            for output in &mut self.outputs {
                output.take_if(|output| output.waiting.is_empty());
            }
        }
    }

    fn write(&mut self, at: usize, flags: PollFlags) {
        let Some(output) = &mut self.outputs[at] else { return };
        if flags.contains(PollFlags::ERR) || !output.pass_on() {
            self.outputs[at] = None;
        }
        self.close_drained();
    }

    fn send(&mut self) {
        if self.conmon.is_gone {
            return;
        }
        self.input.send(&self.conmon.socket);
        if self.input.state == Typing::Ended && self.input.waiting.is_empty() {
            self.input.state = Typing::Over;
            if self.is_read && self.is_deserted() {
                self.input.state = Typing::GoesOn;
                self.outputs = [None, None];
            } else {
                let _ = shutdown(&self.conmon.socket, Shutdown::Write);
            }
        }
    }

    /// Whether all who read have gone, or are going.
    fn is_deserted(&self) -> bool {
        self.outputs.iter().flatten().all(|Output { pipe, .. }| {
            let mut polled = [PollFd::new(pipe, PollFlags::empty())];
            let waited = wait_for(&mut polled, Some(&GOING));
            waited.is_ok() && polled[0].revents().contains(PollFlags::ERR)
        })
    }
}

impl Conmon {
    /// A stream and what was written to it; nothing if nothing has come, or nothing will come any more.
    fn receive(&mut self) -> Option<(u8, &[u8])> {
        match recv(&self.socket, &mut self.packet[..], RecvFlags::DONTWAIT) {
            Ok((count @ 1.., _)) => Some((self.packet[0], &self.packet[1..count])),
            // A reset is said once, of one that has not read everything; what it has sent comes after.
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNRESET) => None,
            Ok((0, _)) | Err(_) => {
                self.is_gone = true;
                None
            }
        }
    }
}

impl Input {
    fn is_used(&self) -> bool {
        self.pipe.is_some() || self.state != Typing::GoesOn
    }

    fn read(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        let mut block = [0; MAX_INPUT];
        match pipe.read(&mut block) {
            Ok(count @ 1..) => self.waiting.extend_from_slice(&block[..count]),
            Err(error) if is_for_now(&error) => {}
            Ok(0) | Err(_) => (self.pipe, self.state) = (None, Typing::Ended),
        }
    }

    /// A packet is sent as a whole, or not yet.
    fn send(&mut self, to: &OwnedFd) {
        if self.waiting.is_empty() {
            return;
        }
        match send(to, &self.waiting, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // conmon has closed the container's input: what would go there goes nowhere.
            Ok(_) | Err(_) => self.waiting.clear(),
        }
    }
}

impl Output {
    /// Writes what it can; whether there is somebody who reads it.
    fn pass_on(&mut self) -> bool {
        while !self.waiting.is_empty() {
            match self.pipe.write(self.waiting.as_slices().0) {
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return is_for_now(&error),
            }
        }
        true
    }
}

fn is_for_now(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn wait_for(polled: &mut [PollFd<'_>], limit: Option<&Timespec>) -> io::Result<()> {
    match poll(polled, limit) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::thread;

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;
    use crate::sys::unblocked;

    #[test]
    fn who_does_not_read_is_cut_off_some_time_after_the_end() {
        let pair =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (conmon, ours) = pair.unwrap();
        let mut container = Command::new("sleep").arg("1000").spawn().unwrap();
        let init = pidfd_open(Pid::from_child(&container), PidfdFlags::empty()).unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        let output = unblocked(&writer.into(), rustix::fs::OFlags::WRONLY).unwrap();
        let relay = Relay::new(ours, init, Stdin::Null, None, [output, None]);
        let relay = Relay { linger: Duration::from_millis(300), ..relay };
        let relay = thread::spawn(move || relay.run().unwrap());
        let packet = [&[2], [b'x'; 8 << 10].as_slice()].concat();
        // More than a pipe has room for.
        for _ in 0..16 {
            send(&conmon, &packet, SendFlags::empty()).unwrap();
        }
        thread::sleep(Duration::from_millis(400));
        assert!(!relay.is_finished(), "the container runs");
        container.kill().unwrap();
        container.wait().unwrap();
        drop(conmon);
        let late = Instant::now() + Duration::from_secs(20);
        while !relay.is_finished() {
            assert!(Instant::now() < late, "nobody is cut off");
            thread::sleep(Duration::from_millis(5));
        }
        relay.join().unwrap();
        let mut text = Vec::new();
        reader.read_to_end(&mut text).unwrap();
        assert!((1 << 10..128 << 10).contains(&text.len()), "{}", text.len());
    }
}
