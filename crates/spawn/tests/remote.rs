//! The suite, forked by a real `tare-spawn` for each test.

#![allow(clippy::disallowed_methods, reason = "a test makes its own surroundings")]

mod suite;
mod world;

fn world() -> world::World {
    world::World::remote()
}
