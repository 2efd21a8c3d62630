//! The end of a simulation: the faults stop, everybody finishes, and then everything must be as the log says.

use cache::ViewLookup;
use domain::PositionVector;

use super::log::PARTITIONS;
use super::projectors::CommitFaults;
use super::readers::{self, ViewResponse};
use super::redis_model::Health;
use super::simulation::{Simulation, Violation};
use super::views::ViewRequest;

/// How many steps a projector may take to fold the rest of the log. Enough for ten times a simulation's records.
const MOST_STEPS: usize = 10_000;

impl Simulation<'_> {
    /// Lets everybody finish, and checks the result.
    pub(super) async fn finish(&mut self) -> Result<(), Violation> {
        self.note(|| "the faults end".to_owned());
        self.redis.set_health(Health::Up);
        self.faults = CommitFaults::default();
        // The other projector still believes that it owns the partitions.
        for _ in 0..20 {
            self.work(1).await?;
        }
        self.catch_up().await?;
        while !self.readers.is_empty() {
            self.step_reader_at(0)?;
        }
        self.check_rows()?;
        let progress = self.check_progress()?;
        if progress != self.log.end() {
            return Err(format!("the log ends at {:?}, but Redis is at {:?}", self.log.end().0, progress.0));
        }
        self.check_acknowledged()?;
        for request in self.read.clone() {
            self.check_cached(&request).await?;
        }
        Ok(())
    }

    /// Lets one projector fold the rest of the log, from a new start.
    async fn catch_up(&mut self) -> Result<(), Violation> {
        self.start_projector(0);
        let end: PositionVector = self.log.end();
        for _ in 0..MOST_STEPS {
            if self.projectors[0].1.is_done(&end) {
                return Ok(());
            }
            for partition in 0..PARTITIONS {
                self.projectors[0].1.read(&self.log, i32::try_from(partition).unwrap(), 10);
            }
            let is_apart = self.rng.percent(50);
            self.projectors[0].1.begin_batch(is_apart, std::time::Duration::from_secs(1));
            self.work(0).await?;
        }
        Err(format!("the projector never reaches {:?}", end.0))
    }

    /// Checks that Redis has no view that is older than the end of the log.
    async fn check_cached(&self, request: &ViewRequest) -> Result<(), Violation> {
        let ViewLookup { progress, view, .. } =
            self.nodes[0].view(&request.key()).await.map_err(|it| it.to_string())?;
        let Some(view) = view else { return Ok(()) };
        let response = ViewResponse { view: Some(readers::parse(&view)), includes: progress, is_hit: true };
        self.check_response(request, &PositionVector::default(), &response)
    }

    fn check_rows(&self) -> Result<(), Violation> {
        let postgres = self.postgres.borrow();
        let (stored, expected) = (postgres.export_state(), self.log.expected.state());
        if stored != expected {
            return Err(format!("the read model is not the fold of the log:\n{stored:#?}\nexpected:\n{expected:#?}"));
        }
        if !postgres.parked.keys().eq(&self.log.undecodable) {
            return Err(format!("parked: {:?}, expected: {:?}", postgres.parked.keys(), self.log.undecodable));
        }
        Ok(())
    }

    fn check_acknowledged(&self) -> Result<(), Violation> {
        let is_lost = |(event, _): &&(domain::Event, domain::Position)| {
            event.data.changes_state() && !self.log.expected.has_used(event)
        };
        match self.acknowledged.iter().find(is_lost) {
            Some((event, position)) => Err(format!("acknowledged at {position}, but lost: {event:?}")),
            None => Ok(()),
        }
    }
}
