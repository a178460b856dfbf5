//! What goes wrong in a world: which faults, how often and when, drawn from the seed.

/// Faults at random moments fall into the first so many microseconds.
const SPAN: u64 = 3_000_000;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// A connection is gone at once, with all that is on its way in both directions.
    Cut,
    /// Nothing gets through any more for a while, in these directions: to the run, to the agent.
    Stall(bool, bool),
    /// The agent's process stands still for a while.
    Freeze,
    /// The machine is gone, and comes again later.
    Death,
    /// The agent wants to go, and comes again later.
    Drain,
    /// Another run wants a slot.
    Spare,
    /// The coordinator is killed, and started again later.
    Crash,
    /// The run is interrupted.
    Stop,
}

/// The faults of one world.
#[derive(Clone, Debug, Default)]
pub struct Mix {
    /// Cases and units that end their process, and slots that cannot be set up.
    pub crashes: bool,
    /// Results that come twice and differ, and cases that are never heard of again.
    pub lies: bool,
    /// A case that takes its agent down each time.
    pub poison: bool,
    /// A machine on which everything fails.
    pub sick: bool,
    /// Cases that take seconds.
    pub slow: bool,
    /// Cases that stand still the first time.
    pub hangs: bool,
    /// Suites allow copies.
    pub copies: bool,
    /// Cases that take next to nothing: much happens before a row is durable.
    pub quick: bool,
    /// The store takes its time for each row.
    pub slow_store: bool,
    /// How often the coordinator may be killed at moments that it would like least.
    pub ambushes: u32,
    /// Those at moments that are drawn.
    pub faults: Vec<(u64, Fault)>,
}

impl Mix {
    pub fn draw(random: &mut fastrand::Rng) -> Mix {
        let mut mix = Mix {
            crashes: random.bool(),
            lies: random.u32(0..6) == 0,
            slow: random.u32(0..4) == 0,
            slow_store: random.u32(0..6) == 0,
            quick: random.u32(0..5) == 0,
            hangs: random.u32(0..3) == 0,
            ..Mix::default()
        };
        mix.copies = if mix.hangs {
            random.u32(0..6) > 0
        } else {
            random.bool()
        };
        // Some worlds are quiet: what goes wrong there is nobody's fault but the run's.
        if random.u32(0..5) == 0 {
            return mix;
        }
        mix.poison = random.u32(0..5) == 0;
        mix.sick = random.u32(0..6) == 0;
        let restarts = random.u32(0..3) == 0;
        if restarts {
            mix.ambushes = random.u32(1..4);
        }
        let both = |random: &mut fastrand::Rng| match random.u32(0..3) {
            0 => Fault::Stall(true, false),
            1 => Fault::Stall(false, true),
            _ => Fault::Stall(true, true),
        };
        let mut some = |random: &mut fastrand::Rng, one_in: u32, fault: Option<Fault>| {
            if random.u32(0..one_in) > 0 {
                return;
            }
            for _ in 0..random.u32(1..4) {
                let fault = fault.unwrap_or_else(|| both(random));
                mix.faults.push((random.u64(0..SPAN), fault));
            }
        };
        some(random, 2, Some(Fault::Cut));
        some(random, 3, None);
        some(random, 4, Some(Fault::Freeze));
        some(random, 3, Some(Fault::Death));
        some(random, 4, Some(Fault::Drain));
        some(random, 3, Some(Fault::Spare));
        if restarts {
            some(random, 2, Some(Fault::Crash));
        }
        if random.u32(0..8) == 0 {
            mix.faults.push((random.u64(0..SPAN), Fault::Stop));
        }
        mix
    }

    pub fn has(&self, which: impl Fn(Fault) -> bool) -> bool {
        self.faults.iter().any(|&(_, fault)| which(fault))
    }

    pub fn restarts(&self) -> bool {
        self.ambushes > 0 || self.has(|fault| fault == Fault::Crash)
    }

    pub fn stops(&self) -> bool {
        self.has(|fault| fault == Fault::Stop)
    }

    /// Whether it may be in doubt who is there: more goes wrong than that machines are lost.
    pub fn moves_much(&self) -> bool {
        let plain = |fault| matches!(fault, Fault::Death | Fault::Stop);
        self.sick || self.restarts() || self.has(|fault| !plain(fault))
    }

    /// Whether a slot may be lost, or cut off, or asked for.
    pub fn moves(&self) -> bool {
        self.poison || self.sick || self.restarts() || self.has(|fault| fault != Fault::Stop)
    }
}
