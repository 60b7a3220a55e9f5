//! Whether times of two runs can be compared, and over what.

use super::run::Run;
use crate::store::manifest::CalibrationRecord;
use crate::table::Stage;

/// How times of two runs are brought together.
pub(super) struct Times {
    comparable: Comparable,
    /// A server embeds the questions: no loop on this machine says how fast.
    is_embedded_elsewhere: bool,
    /// Factor for the candidate's times.
    pub scale: f64,
    /// By how much the calibration loops disagree, as a factor from 1 on.
    pub unsteadiness: f64,
    /// What a reader must know of them.
    pub notes: Vec<String>,
}

/// Which stages' times can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparable {
    All,
    /// Those that wait for the model's server, on whatever machine.
    Served,
    None,
}

impl Times {
    /// Of one machine as steady as can be.
    pub fn steady() -> Self {
        Self { comparable: Comparable::All, is_embedded_elsewhere: false, scale: 1.0, unsteadiness: 1.0, notes: Vec::new() }
    }

    /// As they are.
    fn plain(comparable: Comparable, notes: Vec<String>) -> Self {
        Self { comparable, notes, ..Self::steady() }
    }

    fn not(why: &str) -> Self {
        Self::plain(Comparable::None, vec![format!("times are not compared: {why}")])
    }

    /// Whether those of a stage can be compared.
    pub fn has(&self, stage: Stage) -> bool {
        match self.comparable {
            Comparable::All => !(self.is_embedded_elsewhere && stage == Stage::Embed),
            Comparable::Served => matches!(stage, Stage::Prefill | Stage::Decode | Stage::Ttft | Stage::E2e),
            Comparable::None => false,
        }
    }

    /// Of a model behind a server, whose times no loop on this machine can tell apart from its load: as they are, if it is the same server.
    fn of_servers(candidate: &str, reference: &str, is_one_machine: bool) -> Self {
        let name = |address: &str| address.rsplit_once(':').map_or(address, |(name, _)| name).to_owned();
        if name(candidate) != name(reference) {
            return Self::not(&format!("the model was behind different servers (candidate {candidate}, reference {reference})"));
        }
        let at = if candidate == reference { candidate.to_owned() } else { format!("{candidate} (reference {reference})") };
        let mut notes = vec![format!(
            "the model was behind the server at {at}: its times are compared as its user had them, network, queue and load included, and no \
             calibration tells a slower model from a busier server: measure both runs again, in turn, before a difference is believed"
        )];
        if !is_one_machine {
            notes.push("times of embedding, search and prompt are not compared: processor or threads differ".to_owned());
        }
        Self::plain(if is_one_machine { Comparable::All } else { Comparable::Served }, notes)
    }

    /// As the runs' manifests say.
    pub fn of(candidate: &Run, reference: &Run) -> Self {
        let embeds = |run: &Run| run.manifest().index.as_ref().is_some_and(|index| index.embedder.is_some());
        let is_embedded_elsewhere = embeds(candidate) || embeds(reference);
        let mut times = Self::of_model(candidate, reference);
        if is_embedded_elsewhere && times.has(Stage::E2e) {
            times.notes.push(
                "a server embedded the questions: that stage's times are not compared, and are in `ttft` and `e2e` as they were".to_owned(),
            );
        }
        Self { is_embedded_elsewhere, ..times }
    }

    fn of_model(candidate: &Run, reference: &Run) -> Self {
        let (of, to) = (candidate.manifest(), reference.manifest());
        let not = |why: String| Self::not(&why);
        if let (Some(candidate), Some(reference)) = (&of.model.served, &to.model.served) {
            let is_one_machine = of.machine.cpu == to.machine.cpu && of.machine.threads == to.machine.threads;
            return Self::of_servers(&candidate.host, &reference.host, is_one_machine);
        }
        if of.machine.threads != to.machine.threads {
            return not(format!("threads differ (candidate {}, reference {})", of.machine.threads, to.machine.threads));
        }
        if of.machine.device != to.machine.device {
            return not(format!("devices differ (candidate {}, reference {})", of.machine.device, to.machine.device));
        }
        match (&of.calibration, &to.calibration) {
            (Some(of), Some(to)) if of.version == to.version => Self {
                scale: to.nanoseconds() / of.nanoseconds(),
                unsteadiness: of.unsteadiness() * to.unsteadiness() * discord(of, to),
                ..Self::steady()
            },
            (Some(_), Some(_)) => not("the calibration loop is another one".to_owned()),
            _ if of.machine.cpu == to.machine.cpu => {
                let note = "a run has no calibration figure: times are compared as they are, because the processor has one name";
                Self::plain(Comparable::All, vec![note.to_owned()])
            }
            _ => not("a run has no calibration figure, and the processors differ".to_owned()),
        }
    }
}

/// By which factor the scale may be wrong: it is the mean of what one thread alone says and what all say together, and on a busy machine the
/// two part.
fn discord(of: &CalibrationRecord, to: &CalibrationRecord) -> f64 {
    let alone = to.alone.nanoseconds() / of.alone.nanoseconds();
    let together = to.together.nanoseconds() / of.together.nanoseconds();
    (alone / together).max(together / alone).sqrt()
}
