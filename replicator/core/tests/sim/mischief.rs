//! Starts, kills, stops and wakes processes.

use crate::net::Ev;
use crate::pump::{News, Pump};
use crate::world::{Doom, World};

impl World {
    pub fn start(&mut self, process: usize) {
        let it = &mut self.processes[process];
        if it.pumps.iter().any(|pump| self.pumps[*pump].is_some()) {
            return;
        }
        it.life += 1;
        it.retired = false;
        for pump in it.pumps.clone() {
            let life = self.processes[process].life;
            self.pumps[pump] = Some(Pump::new(&self.net, pump, life, &self.names[pump]));
            for ev in [
                Ev::Refresh(pump, life),
                Ev::Step(pump, life),
                Ev::Beat(pump, life),
            ] {
                self.net.borrow_mut().after(1, ev);
            }
        }
    }

    /// What it held is gone, what it sent is under way; it comes back later.
    pub fn crash(&mut self, process: usize) {
        let it = &mut self.processes[process];
        it.life += 1;
        (it.frozen, it.kept) = (false, Vec::new());
        for pump in it.pumps.clone() {
            self.pumps[pump] = None;
        }
        let mut net = self.net.borrow_mut();
        let ms = if net.rng.bool() {
            net.rng.u64(50..1_000)
        } else {
            net.rng.u64(1_000..25_000)
        };
        net.after(ms, Ev::Start(process));
    }

    pub fn meet_doom(&mut self, at: usize) {
        let process = self.of[at];
        let Some(pump) = self.pumps[at].as_ref() else {
            return;
        };
        let saw = match self.processes[process].doom {
            Some(Doom::KillAtCommit) if pump.is_committing() => "killed in the middle of a commit",
            Some(Doom::StopAtCommit(_)) if pump.is_committing() => "stopped in the middle of a commit",
            Some(Doom::KillAtSync) if pump.seat.is_syncing() => "killed between join and sync",
            _ => return,
        };
        self.net.borrow_mut().saw(saw);
        match self.processes[process].doom.take() {
            Some(Doom::StopAtCommit(ms)) => {
                self.processes[process].frozen = true;
                self.net.borrow_mut().after(ms, Ev::Wake(process));
            }
            _ => self.crash(process),
        }
    }

    pub fn wake(&mut self, process: usize) {
        if !std::mem::take(&mut self.processes[process].frozen) {
            return;
        }
        for ev in std::mem::take(&mut self.processes[process].kept) {
            self.net.borrow_mut().after(0, ev);
        }
    }

    pub fn mischief(&mut self) {
        if !self.net.borrow().stormy {
            return;
        }
        let process = self.net.borrow_mut().rng.usize(0..self.processes.len());
        let alive = self.processes[process]
            .pumps
            .iter()
            .any(|pump| self.pumps[*pump].is_some());
        let kind = self.net.borrow_mut().rng.u8(0..11);
        match kind {
            0 | 1 if alive => self.crash(process),
            2..=4 if alive && !self.processes[process].frozen => {
                let ms = self.net.borrow_mut().rng.u64(500..25_000);
                if ms > 11_000 {
                    self.net.borrow_mut().saw("process stopped past its session");
                }
                self.processes[process].frozen = true;
                self.net.borrow_mut().after(ms, Ev::Wake(process));
            }
            7 | 8 if alive => {
                let ms = self.net.borrow_mut().rng.u64(8_000..20_000);
                let doom = match self.net.borrow_mut().rng.u8(0..3) {
                    0 => Doom::KillAtCommit,
                    1 => Doom::StopAtCommit(ms),
                    _ => Doom::KillAtSync,
                };
                self.processes[process].doom = Some(doom);
            }
            5 | 6 if alive => {
                self.processes[process].retired = kind == 6;
                for pump in self.processes[process].pumps.clone() {
                    let news = Ev::News(pump, self.processes[process].life, News::Stop);
                    self.net.borrow_mut().after(1, news);
                }
            }
            _ => self.net.borrow_mut().topic_trouble(),
        }
        let ms = self.net.borrow_mut().rng.u64(200..6_000);
        self.net.borrow_mut().after(ms, Ev::Fault);
    }
}
