//! The suite, forked by the test itself.

#![allow(clippy::disallowed_methods, reason = "a test makes its own surroundings")]

mod suite;
mod world;

fn world() -> world::World {
    world::World::local().0
}
