//! A vCPU and its thread: runs, stands still, naps, as it is told.
//!
//! Whoever wants something of a vCPU changes its [`Orders`] and kicks it. The thread holds the vCPU while it runs and lets go of it when
//! it stands still, so that others may look at its registers then.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kvm_bindings::kvm_regs;
use kvm_ioctls::{VcpuExit, VcpuFd};

use whimbrel_core::layout::Gpa;

use super::kick::{self, ImmediateExit};
use super::pace::{Pace, Pacer};
use super::state::{VcpuState, Vectors};

/// What a vCPU is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Stand,
    Run,
    End,
}

/// What it does.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Doing {
    Standing,
    Running,
    /// It ran into something that no instruction of its code leads to.
    Failed(String),
}

#[derive(Debug)]
struct Orders {
    wish: Wish,
    /// Until when it is to sleep, though it may run.
    nap: Option<Instant>,
    doing: Doing,
}

/// What vCPU and monitor share.
#[derive(Debug)]
pub(super) struct Vcpu {
    /// Held by the thread while it runs.
    fd: Mutex<VcpuFd>,
    leave: ImmediateExit,
    /// Address of the device that it asks.
    device: u64,
    orders: Mutex<Orders>,
    /// Anything about `orders` has changed.
    changed: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Nothing here is left half changed by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Vcpu {
    /// A vCPU that stands still, on a thread of its own.
    pub(super) fn start(index: usize, fd: VcpuFd, device: Gpa, pace: Pace) -> io::Result<Arc<Self>> {
        let leave = ImmediateExit::of(&fd)?;
        leave.set(true);
        let orders = Orders { wish: Wish::Stand, nap: None, doing: Doing::Standing };
        let vcpu = Arc::new(Self {
            fd: Mutex::new(fd),
            leave,
            device: device.0,
            orders: Mutex::new(orders),
            changed: Condvar::new(),
            thread: Mutex::new(None),
        });
        let its_own = Arc::clone(&vcpu);
        let thread =
            std::thread::Builder::new().name(format!("vcpu-{index}")).spawn(move || its_own.serve(pace))?;
        *lock(&vcpu.thread) = Some(thread);
        Ok(vcpu)
    }

    /// Tells it to stop; [`Vcpu::wait_until_still`] waits for that.
    pub(super) fn ask_to_stand(&self) {
        self.order(|orders| orders.wish = Wish::Stand);
    }

    /// Lets it run.
    pub(super) fn ask_to_run(&self) {
        self.order(|orders| orders.wish = Wish::Run);
    }

    /// Makes it sleep, if it runs; a nap that it takes already is over then.
    pub(super) fn ask_to_nap(&self, time: Duration) {
        let until = Instant::now() + time;
        self.order(|orders| orders.nap = Some(until));
    }

    /// Ends a nap.
    pub(super) fn wake(&self) {
        self.order(|orders| orders.nap = None);
    }

    /// Waits until it has left `KVM_RUN` for good, or says why it never will run again.
    pub(super) fn wait_until_still(&self) -> Result<(), String> {
        let mut orders = lock(&self.orders);
        loop {
            match &orders.doing {
                Doing::Standing => return Ok(()),
                Doing::Failed(why) => return Err(why.clone()),
                Doing::Running => orders = self.wait(orders, None),
            }
        }
    }

    /// Why it does not run any more, if so.
    pub(super) fn failure(&self) -> Option<String> {
        match &lock(&self.orders).doing {
            Doing::Failed(why) => Some(why.clone()),
            Doing::Standing | Doing::Running => None,
        }
    }

    /// Ends its thread.
    pub(super) fn end(&self) {
        self.order(|orders| orders.wish = Wish::End);
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            // It does not panic, and there is nobody to tell.
            let _ = thread.join();
        }
    }

    /// The state of one that stands still.
    pub(super) fn state(&self) -> Result<VcpuState, kvm_ioctls::Error> {
        let fd = lock(&self.fd);
        let vectors = Vectors::of(&fd.get_xsave()?);
        Ok(VcpuState { regs: fd.get_regs()?, sregs: fd.get_sregs()?, vectors })
    }

    /// Replaces the state of one that stands still.
    pub(super) fn set_state(&self, state: &VcpuState) -> Result<(), kvm_ioctls::Error> {
        let fd = lock(&self.fd);
        fd.set_sregs(&state.sregs)?;
        // Not `KVM_SET_FPU`: what that sets is lost if KVM takes these registers for unused.
        // SAFETY: KVM reads no more than this structure's 4096 bytes: whoever made the vCPU has asked how many it reads, and that
        // does not change any more when there is one.
        unsafe { fd.set_xsave(&state.vectors.xsave()) }?;
        fd.set_regs(&state.regs)
    }

    /// Runs one that stands still on this thread until it says that it is done; its registers are as before afterwards.
    pub(super) fn run_aside(&self, registers: &kvm_regs) -> Result<(), String> {
        let mut fd = lock(&self.fd);
        let said = |error: kvm_ioctls::Error| error.to_string();
        let before = fd.get_regs().map_err(said)?;
        fd.set_regs(registers).map_err(said)?;
        let mut done = false;
        let outcome = loop {
            // When it is done once more, so that KVM completes what it is at. And every time, because whoever orders a nap sets it.
            self.leave.set(done);
            match fd.run() {
                Ok(VcpuExit::MmioWrite(address, _)) if address == self.device => done = true,
                Err(error) if is_interruption(error) && done => break Ok(()),
                Err(error) if is_interruption(error) => {}
                other => break Err(unexpected(&other)),
            }
        };
        self.leave.set(true);
        fd.set_regs(&before).map_err(said)?;
        outcome
    }

    /// Changes what it is to do, and makes it look.
    fn order(&self, change: impl FnOnce(&mut Orders)) {
        let mut orders = lock(&self.orders);
        change(&mut orders);
        self.leave.set(true);
        self.changed.notify_all();
        drop(orders);
        if let Some(thread) = &*lock(&self.thread) {
            kick::interrupt(thread);
        }
    }

    /// Waits for a change of orders, until `deadline` at most.
    fn wait<'a>(&self, orders: MutexGuard<'a, Orders>, deadline: Option<Instant>) -> MutexGuard<'a, Orders> {
        match deadline {
            None => self.changed.wait(orders).unwrap_or_else(PoisonError::into_inner),
            Some(deadline) => {
                let time = deadline.saturating_duration_since(Instant::now());
                self.changed.wait_timeout(orders, time).unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    /// The thread: from order to order.
    fn serve(&self, pace: Pace) {
        // Threads inherit what is blocked; if it is not, there is nothing to do.
        let _ = kick::allow();
        let mut left = Instant::now();
        let mut pacer = Pacer::new(pace, left);
        while self.wait_for_leave_to_run() {
            pacer.stood(left.elapsed());
            if let Err(why) = self.run(&mut pacer) {
                lock(&self.orders).doing = Doing::Failed(why);
                self.changed.notify_all();
                return;
            }
            left = Instant::now();
        }
    }

    /// Stands still or sleeps until it may run; false if it is to end.
    fn wait_for_leave_to_run(&self) -> bool {
        let mut orders = lock(&self.orders);
        loop {
            let nap = orders.nap.filter(|&until| until > Instant::now());
            match (orders.wish, nap) {
                (Wish::End, _) => return false,
                (Wish::Stand, _) => {
                    orders.doing = Doing::Standing;
                    self.changed.notify_all();
                    orders = self.wait(orders, None);
                }
                (Wish::Run, Some(until)) => orders = self.wait(orders, Some(until)),
                (Wish::Run, None) => {
                    orders.nap = None;
                    orders.doing = Doing::Running;
                    // Under the lock: whoever changes orders from here on sets it again.
                    self.leave.set(false);
                    return true;
                }
            }
        }
    }

    /// Lets the guest run until it is kicked.
    ///
    /// The only way out is the one by which `KVM_RUN` has been entered once more after the last exit. KVM completes an
    /// instruction that went to the monitor only then; registers that were read before would repeat it.
    fn run(&self, pacer: &mut Pacer) -> Result<(), String> {
        let mut fd = lock(&self.fd);
        loop {
            match fd.run() {
                Ok(VcpuExit::MmioRead(address, data)) if address == self.device && data.len() == 4 => {
                    data.copy_from_slice(&self.grant(pacer).to_le_bytes());
                }
                Err(error) if is_interruption(error) => return Ok(()),
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// The next budget, when it is time or there are new orders: then it is due later and the guest has it anyway.
    fn grant(&self, pacer: &mut Pacer) -> u32 {
        let budget = pacer.next(Instant::now());
        let mut orders = lock(&self.orders);
        let at_work = |orders: &Orders| orders.wish == Wish::Run && orders.nap.is_none();
        while at_work(&orders) && Instant::now() < budget.at {
            orders = self.wait(orders, Some(budget.at));
        }
        budget.writes
    }
}

/// A signal came, or the flag is set.
fn is_interruption(error: kvm_ioctls::Error) -> bool {
    matches!(error.errno(), libc::EINTR | libc::EAGAIN)
}

fn unexpected(exit: &Result<VcpuExit<'_>, kvm_ioctls::Error>) -> String {
    match exit {
        Ok(exit) => format!("its code leads nowhere: {exit:?}"),
        Err(error) => format!("it does not run: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::KvmGuest;
    use super::super::tests::{kvm, memory, shape};
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use whimbrel_core::embed::Guest as _;

    /// However long one of them takes, as for an instruction that the host emulates.
    #[test]
    fn a_pause_waits_for_each_vcpu() {
        if !kvm() {
            return;
        }
        let mut guest = KvmGuest::boot(memory(), &shape(Pace::Free)).unwrap();
        for vcpu in guest.vcpus.clone() {
            let held = lock(&vcpu.fd);
            guest.resume().unwrap();
            while lock(&vcpu.orders).doing != Doing::Running {
                std::thread::yield_now();
            }
            let paused = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    guest.pause().unwrap();
                    paused.store(true, Ordering::Relaxed);
                });
                std::thread::sleep(Duration::from_millis(50));
                assert!(!paused.load(Ordering::Relaxed), "paused, and a vCPU has not come out");
                drop(held);
            });
        }
    }
}
