-- SPDX-License-Identifier: Apache-2.0
-- Policies that share a slot start one after the other: each later by a delay of its own within the window.
-- policy_due.next_at is when it fires, the slot is that less the delay; the slot stays the identity.
ALTER TABLE policies
    ADD COLUMN stagger interval NOT NULL DEFAULT '0',
    ADD COLUMN stagger_delay interval NOT NULL DEFAULT '0';
