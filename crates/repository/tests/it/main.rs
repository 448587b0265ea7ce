//! The repository over real folders: those of `tests/models/`, and trees made for one test.

#[cfg(test)]
mod hugging_face;
#[cfg(test)]
mod layouts;
#[cfg(test)]
mod mlflow;
#[cfg(test)]
mod python;
#[cfg(test)]
mod robust;
#[cfg(test)]
mod salver_folders;
#[cfg(test)]
mod tfserving;
#[cfg(test)]
mod tree;
#[cfg(test)]
mod triton;
