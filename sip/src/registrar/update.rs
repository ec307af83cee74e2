//! The update of an AOR's bindings, all or nothing (§10.3 steps 6 and 7, RFC 5626 §6).

use super::contact::{Asked, Sender};
use super::{Binding, Change, Rejection};
use crate::message::StatusCode;
use crate::time::UnixTime;

/// The bindings while a REGISTER is applied. It is thrown away when a contact is refused.
pub(super) struct Table {
    now: UnixTime,
    rows: Vec<Row>,
    added: usize,
    removed: usize,
    /// True once a binding changed in more than its times.
    altered: bool,
    /// True once a binding was refreshed.
    refreshed: bool,
}

struct Row {
    binding: Binding,
    /// True for a binding that this REGISTER made or changed: a second mention of the same contact overrides the first.
    is_ours: bool,
}

impl Table {
    pub(super) fn new(old: &[Binding], now: UnixTime) -> Self {
        let current = old.iter().filter(|binding| !binding.is_expired(now));
        let rows = current.map(|binding| Row { binding: binding.clone(), is_ours: false }).collect();
        Self { now, rows, added: 0, removed: 0, altered: false, refreshed: false }
    }

    /// Applies `Contact: *`.
    pub(super) fn remove_all(&mut self, sender: &Sender) -> Result<(), Box<Rejection>> {
        self.rows.iter().try_for_each(|row| row.check_order(sender))?;
        self.removed += self.rows.len();
        self.rows.clear();
        Ok(())
    }

    /// Applies one contact.
    pub(super) fn apply(&mut self, sender: &Sender, asked: Asked) -> Result<(), Box<Rejection>> {
        let reg_id = asked.reg_id.filter(|_| sender.uses_outbound);
        let is_same = |row: &Row| {
            let binding = &row.binding;
            let is_same_flow = reg_id.is_some() && binding.reg_id == reg_id && binding.instance == asked.instance;
            let is_same_contact = || binding.contact == asked.uri || binding.contact.is_equivalent(&asked.uri);
            is_same_flow || ((reg_id.is_none() || binding.reg_id.is_none()) && is_same_contact())
        };
        // Two may match: the flow under its number, and the same contact registered before without one. Both are replaced by one.
        let mut found = None;
        while let Some(at) = self.rows.iter().position(is_same) {
            let row = self.rows.remove(at);
            row.check_order(sender)?;
            if found.is_some() {
                self.removed += 1;
            }
            found.get_or_insert((at, row.binding));
        }
        if asked.expires.is_zero() {
            self.removed += usize::from(found.is_some());
            return Ok(());
        }
        let new = Binding {
            behind_nat: sender.is_behind_nat(&asked.uri),
            contact: asked.uri,
            q: asked.q,
            expires_at: self.now.plus(asked.expires),
            granted: asked.expires,
            call_id: sender.call_id.clone(),
            cseq: sender.cseq,
            path: sender.path.clone(),
            instance: asked.instance,
            reg_id,
            user_agent: sender.user_agent.clone(),
            received: sender.received,
        };
        match &found {
            Some((_, old)) if new.is_refresh_of(old) => self.refreshed = true,
            Some(_) => self.altered = true,
            None => self.added += 1,
        }
        let at = found.map_or(self.rows.len(), |(at, _)| at);
        self.rows.insert(at.min(self.rows.len()), Row { binding: new, is_ours: true });
        Ok(())
    }

    /// Where there are too many, takes older bindings of the instances that this REGISTER adds out, the oldest first.
    pub(super) fn displace(&mut self, sender: &Sender, most: usize) -> Result<(), Box<Rejection>> {
        while self.added > 0 && self.rows.len() > most {
            let is_of = |old: &Row, new: &Row| {
                new.is_ours && new.binding.instance == old.binding.instance && new.binding.reg_id.is_none() && old.binding.reg_id.is_none()
            };
            let is_older = |old: &Row| !old.is_ours && !old.binding.instance.is_empty() && self.rows.iter().any(|new| is_of(old, new));
            let older = self.rows.iter().enumerate().filter(|(_, row)| is_older(row));
            let Some((at, _)) = older.min_by_key(|(_, row)| row.binding.expires_at) else { break };
            self.rows.remove(at).check_order(sender)?;
            self.removed += 1;
        }
        Ok(())
    }

    /// Returns the bindings and what became of them.
    pub(super) fn finish(self) -> (Vec<Binding>, Change) {
        let Self { added, removed, .. } = self;
        let change = match () {
            () if self.altered || added + removed > 0 => Change::Altered { added, removed },
            () if self.refreshed => Change::Refreshed,
            () => Change::None,
        };
        (self.rows.into_iter().map(|row| row.binding).collect(), change)
    }
}

impl Row {
    /// Refuses a request that is older than the binding, or a copy of the one that made it (§10.3 step 7).
    fn check_order(&self, sender: &Sender) -> Result<(), Box<Rejection>> {
        if !self.is_ours && self.binding.call_id == sender.call_id && sender.cseq <= self.binding.cseq {
            return Err(Rejection::new(StatusCode::SERVER_INTERNAL_ERROR, "out of order"));
        }
        Ok(())
    }
}
