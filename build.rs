//! Makes the program smaller: functions with the same instructions become one, and relocations are packed.
//!
//! Invariant: only the linker that the toolchain brings for this target is given options. Another one might not know
//! them.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = std::env::var("TARGET").unwrap_or_default();
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    // Rust links this target with its own LLD since 1.90.
    if release && target == "x86_64-unknown-linux-gnu" {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
