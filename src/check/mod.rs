//! Test kinds and expectations: pure judgement of what the agent saw. No I/O, no engine.
pub mod model;
