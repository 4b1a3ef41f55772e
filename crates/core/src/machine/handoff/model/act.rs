//! How a world takes a step, and the rules that a step must keep.

use super::*;

impl World {
    pub(super) fn take(&mut self, step: Step, search: Search) -> Check {
        match step {
            Step::Pause => self.pause(search),
            Step::Deliver(Side::Source) => {
                let message = self.to_source.remove(0);
                self.tell_source(SourceEvent::Received(message), search)
            }
            Step::Deliver(Side::Destination) => self.deliver_to_destination(search),
            Step::Written(side) => self.written(side, search),
            Step::Verify => self.tell_destination(DestinationEvent::Verified, search),
            Step::Resumed => self.tell_destination(DestinationEvent::Resumed, search),
            Step::Notice(side) => self.disconnect(side, search),
            Step::Connect => {
                // The destination has nothing to say, so the order does not matter to it.
                self.tell_destination(DestinationEvent::Connected, search)?;
                self.tell_source(SourceEvent::Connected, search)
            }
            Step::Restart(side) => {
                self.restart(side, search);
                Ok(())
            }
            Step::StartFromDisk(side) => {
                self.start_from_disk(side);
                Ok(())
            }
            Step::Fence(side, fence) => self.fence(side, fence, search),
            Step::Cancel => self.cancel(search),
            Step::Withdraw => self.withdraw(search),
            Step::Lose(side) => {
                spend(&mut self.left.losses);
                self.disconnect(side, search)
            }
            Step::Crash(side, wrote) => {
                match side {
                    Side::Source => {
                        spend(&mut self.left.source_crashes);
                        self.past.source_crashed = true;
                    }
                    Side::Destination => {
                        spend(&mut self.left.destination_crashes);
                        self.past.destination_crashed = true;
                    }
                }
                self.crash(side, wrote);
                Ok(())
            }
            Step::FailWrite(side) => self.fail_write(side, search),
            Step::Repeat(side) => self.repeat(side, search),
            Step::Kill(side) => {
                self.kill(side);
                Ok(())
            }
            Step::Discard => {
                self.past.discarded = true;
                self.tell_destination(DestinationEvent::Discard, search)
            }
        }
    }

    fn fail_write(&mut self, side: Side, search: Search) -> Check {
        spend(&mut self.left.failed_writes);
        match side {
            Side::Source => {
                self.source.writing = None;
                self.tell_source(SourceEvent::NotPersisted, search)
            }
            Side::Destination => {
                if search.is(Broken::NotWrittenIsSaidOfWhatIs) {
                    self.destination.finish_write();
                }
                self.destination.writing = None;
                self.tell_destination(DestinationEvent::NotPersisted, search)
            }
        }
    }

    fn repeat(&mut self, side: Side, search: Search) -> Check {
        spend(&mut self.left.repeats);
        match side {
            Side::Source => self.to_source.insert(0, self.to_source[0]),
            Side::Destination => self.to_destination.insert(0, self.to_destination[0]),
        }
        self.take(Step::Deliver(side), search)
    }

    fn kill(&mut self, side: Side) {
        spend(&mut self.left.kills);
        self.past.killed = true;
        self.crash(side, Wrote::No);
        match side {
            Side::Source => self.source.dead = true,
            Side::Destination => self.destination.dead = true,
        }
    }

    fn pause(&mut self, search: Search) -> Check {
        self.tell_source(SourceEvent::Pause, search)?;
        self.source.running = false;
        if self.connected(Side::Destination) {
            self.to_destination.push(Parcel::LastState);
        }
        Ok(())
    }

    fn deliver_to_destination(&mut self, search: Search) -> Check {
        match self.to_destination.remove(0) {
            Parcel::LastState => {
                self.state_arrived = true;
                Ok(())
            }
            Parcel::Message(HandoffMessage::Cancel) if search.is(Broken::IgnoresCancel) => Ok(()),
            Parcel::Message(message) => {
                self.past.told_to_run |= message == HandoffMessage::Go;
                self.tell_destination(DestinationEvent::Received(message), search)
            }
        }
    }

    fn written(&mut self, side: Side, search: Search) -> Check {
        match side {
            Side::Source => {
                let record = matches!(self.source.writing, Some(Write::Record(_)));
                if record && search.is(Broken::StorageForgetsWhatItSaidIsWritten) {
                    self.source.writing = None;
                }
                self.source.finish_write();
                if record && !search.is(Broken::GoSentBeforeWritten) {
                    self.tell_source(SourceEvent::Persisted, search)?;
                }
            }
            Side::Destination => {
                self.destination.finish_write();
                if !search.is(Broken::RunsBeforeWritten) {
                    self.tell_destination(DestinationEvent::Persisted, search)?;
                }
            }
        }
        Ok(())
    }

    fn restart(&mut self, side: Side, search: Search) {
        match side {
            Side::Source => {
                let record = self.source.stable.filter(|_| !search.is(Broken::ForgetsGoAtRestart));
                self.source.machine = Some(SourceHandoff::restarted(record).unwrap());
            }
            Side::Destination => {
                let forgets = search.is(Broken::ForgetsRunningAtRestart);
                let record = self.destination.stable.filter(|_| !forgets);
                self.destination.machine = Some(DestinationHandoff::restarted(record).unwrap());
            }
        }
    }

    fn start_from_disk(&mut self, side: Side) {
        match side {
            Side::Source => {
                self.source.running = true;
                self.past.source_ran_again = true;
            }
            Side::Destination => {
                self.destination.running = true;
                self.past.destination_ran = true;
            }
        }
    }

    fn crash(&mut self, side: Side, wrote: Wrote) {
        match side {
            Side::Source => {
                let held = self.held(side) == Held::Paused;
                self.source.crash(wrote);
                self.past.lost_after_go |= held && self.source.stable == Some(StableRecord::Go);
                self.to_source.clear();
            }
            Side::Destination => {
                self.destination.crash(wrote);
                self.state_arrived = false;
                self.to_destination.clear();
            }
        }
    }

    fn fence(&mut self, side: Side, fence: Fence, search: Search) -> Check {
        let wrongly = search.is(Broken::ResumesOldMemoryAfterFence);
        let fence = if wrongly { Fence::NeverRan } else { fence };
        match side {
            Side::Source => self.tell_source(SourceEvent::Fenced(fence), search),
            Side::Destination => {
                self.past.told_to_run = true;
                self.tell_destination(DestinationEvent::Fenced(fence), search)
            }
        }
    }

    fn cancel(&mut self, search: Search) -> Check {
        self.past.cancelled = true;
        if let Some(machine) = &mut self.source.machine
            && machine.state == SourceState::Committed
        {
            // Only a broken source gets here.
            machine.state = SourceState::Sending;
        }
        self.tell_source(SourceEvent::Cancel, search)
    }

    fn withdraw(&mut self, search: Search) -> Check {
        if let Some(machine) = &mut self.destination.machine
            && machine.state == DestinationState::Prepared
        {
            // Only a broken destination gets here.
            machine.state = DestinationState::Building;
        }
        self.tell_destination(DestinationEvent::Withdraw, search)
    }

    /// One side sees that the connection is lost. What was under way to it is gone; what it had sent
    /// may still arrive, until the other side sees it too.
    fn disconnect(&mut self, side: Side, search: Search) -> Check {
        match side {
            Side::Source => {
                if !search.is(Broken::OldMessagesArriveLater) {
                    self.to_source.clear();
                }
                self.tell_source(SourceEvent::Disconnected, search)?;
                let committed = |machine: SourceHandoff| machine.state == SourceState::Committed;
                let resumes = search.is(Broken::ResumesWhenDisconnectedAfterGo)
                    && self.source.machine.is_some_and(committed);
                if resumes {
                    let machine = self.source.machine.as_mut().unwrap();
                    machine.connected = true;
                    let gone = HandoffMessage::Answer(Standing::Gone);
                    self.tell_source(SourceEvent::Received(gone), search)?;
                    self.source.machine.as_mut().unwrap().connected = false;
                }
            }
            Side::Destination => {
                if !search.is(Broken::OldMessagesArriveLater) {
                    self.to_destination.clear();
                }
                self.tell_destination(DestinationEvent::Disconnected, search)?;
                if search.is(Broken::TakesOverWhenDisconnected) && self.in_doubt(Side::Destination) {
                    self.tell_destination(DestinationEvent::Fenced(Fence::NeverRan), search)?;
                }
                if search.is(Broken::DropsWhenDisconnected) && self.in_doubt(Side::Destination) {
                    self.tell_destination(DestinationEvent::Discard, search)?;
                }
            }
        }
        Ok(())
    }

    fn tell_source(&mut self, event: SourceEvent, search: Search) -> Check {
        let machine = self.source.machine.as_mut().expect("told while up");
        let before = *machine;
        let effects = match machine.handle(event) {
            Ok(effects) => effects,
            Err(error) => {
                assert_eq!(*machine, before, "a refused event changed the source");
                return search.tolerate(Err(Violation::Refused(error)));
            }
        };
        if search.is(Broken::LostCancelIsNotRepeated)
            && let SourceState::Kept { told } = &mut machine.state
        {
            *told = true;
        }
        for effect in effects {
            self.carry_out_at_source(effect, event, search)?;
        }
        Ok(())
    }

    fn tell_destination(&mut self, event: DestinationEvent, search: Search) -> Check {
        let machine = self.destination.machine.as_mut().expect("told while up");
        let before = *machine;
        let effects = match machine.handle(event) {
            Ok(effects) => effects,
            Err(error) => {
                assert_eq!(*machine, before, "a refused event changed the destination");
                return search.tolerate(Err(Violation::Refused(error)));
            }
        };
        for effect in effects {
            self.carry_out_at_destination(effect, event, before, search)?;
        }
        Ok(())
    }

    fn carry_out_at_source(&mut self, effect: Effect, event: SourceEvent, search: Search) -> Check {
        let answered = matches!(
            event,
            SourceEvent::Received(HandoffMessage::Answer(Standing::Gone)) | SourceEvent::Fenced(_)
        );
        match effect {
            Effect::Persist(record) => {
                self.source.write(Write::Record(record), search)?;
                if search.is(Broken::GoSentBeforeWritten) {
                    self.tell_source(SourceEvent::Persisted, search)?;
                }
            }
            Effect::Erase => {
                let rule = rule(answered, "the record of go is erased only after an answer or a fence");
                search.tolerate(rule)?;
                self.source.write(Write::Erase, search)?;
            }
            Effect::Send(message) => self.send_to_destination(message, search)?,
            Effect::ResumeGuest => {
                harm(self.past.destination_ran, Violation::OldMemoryResumed)?;
                let go = self.source.stable == Some(StableRecord::Go);
                let rule = rule(!go || answered, "after go only an answer or a fence resumes");
                search.tolerate(rule)?;
                self.source.running = true;
                self.past.source_ran_again = true;
            }
            Effect::ReleaseGuest => {
                let fenced = matches!(event, SourceEvent::Fenced(_));
                let running = Some(StableRecord::Running);
                let theirs = fenced || self.destination.stable == running;
                search.tolerate(rule(theirs, "released while the destination might not run"))?;
                if search.is(Broken::ErasesGoWhenReleased) && !fenced {
                    self.source.write(Write::Erase, search)?;
                }
            }
            Effect::DropReplica => return Err(Violation::Rule("the source has no replica")),
            Effect::Report(_) => {}
        }
        Ok(())
    }

    fn send_to_destination(&mut self, message: HandoffMessage, search: Search) -> Check {
        if search.is(Broken::NeverAsksAgain) && message == HandoffMessage::Ask {
            return Ok(());
        }
        let go = message == HandoffMessage::Go;
        let written = self.source.stable == Some(StableRecord::Go);
        search.tolerate(rule(!go || written, "go is sent only once it is written"))?;
        search.tolerate(rule(self.connected(Side::Source), "sent without a connection"))?;
        if self.connected(Side::Destination) {
            self.to_destination.push(Parcel::Message(message));
        }
        if go && search.is(Broken::ReleasesWhenGoIsSent) {
            self.source.machine.as_mut().unwrap().held = Held::Nothing;
        }
        Ok(())
    }

    fn carry_out_at_destination(
        &mut self,
        effect: Effect,
        event: DestinationEvent,
        before: DestinationHandoff,
        search: Search,
    ) -> Check {
        match effect {
            Effect::Persist(record) => {
                let told = rule(self.past.told_to_run, "takes the right only when told");
                search.tolerate(told)?;
                self.destination.write(Write::Record(record), search)?;
                if search.is(Broken::RunsBeforeWritten) {
                    self.tell_destination(DestinationEvent::Persisted, search)?;
                }
            }
            Effect::Send(message) => self.send_to_source(message, search)?,
            Effect::ResumeGuest => {
                harm(self.past.source_ran_again, Violation::OldMemoryResumed)?;
                let written = self.destination.stable == Some(StableRecord::Running);
                search.tolerate(rule(self.past.told_to_run, "runs only when told"))?;
                search.tolerate(rule(written, "runs only once running is written"))?;
                self.destination.running = true;
                self.past.destination_ran = true;
            }
            Effect::DropReplica => {
                let told = matches!(
                    event,
                    DestinationEvent::Received(HandoffMessage::Cancel)
                        | DestinationEvent::Discard
                        | DestinationEvent::Fenced(Fence::MayHaveRun)
                );
                let promised = before.held() != Held::Nothing;
                search.tolerate(rule(!promised || told, "after ready the replica is kept"))?;
            }
            Effect::Erase | Effect::ReleaseGuest => {
                return Err(Violation::Rule("not for a destination"));
            }
            Effect::Report(_) => {}
        }
        Ok(())
    }

    fn send_to_source(&mut self, message: HandoffMessage, search: Search) -> Check {
        search.tolerate(rule(self.connected(Side::Destination), "sent without a connection"))?;
        let lies =
            search.is(Broken::PreparedAnswersGone) && message == HandoffMessage::Answer(Standing::Prepared);
        let message = if lies { HandoffMessage::Answer(Standing::Gone) } else { message };
        let claims = search.is(Broken::RestartedAnswersPrepared)
            && self.past.destination_crashed
            && message == HandoffMessage::Answer(Standing::Gone);
        let message = if claims { HandoffMessage::Answer(Standing::Prepared) } else { message };
        if self.connected(Side::Source) {
            self.to_source.push(message);
        }
        Ok(())
    }
}
