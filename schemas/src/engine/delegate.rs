//! Methods of a function that replaces one of the engine, and that are the engine's.

/// Methods that call the method of the same name of the field `engine`.
macro_rules! as_the_engine {
    ($($method:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $(fn $method(&self, $($argument: $type),*) -> $result {
            self.engine.$method($($argument),*)
        })*
    };
}

pub(super) use as_the_engine;
