//! The messages of the system shared memory extension.

use salver_core::Result;

use super::inference::system_shared_memory_status_response::RegionStatus;
use super::inference::{SystemSharedMemoryRegisterRequest, SystemSharedMemoryStatusResponse};
use crate::Limits;
use crate::shared_memory::{Region, check_region_name};

/// Reads what shall be registered.
///
/// # Errors
/// `InvalidInput` for a name that is none.
pub fn decode_register(message: SystemSharedMemoryRegisterRequest, limits: &Limits) -> Result<Region> {
    let SystemSharedMemoryRegisterRequest { name, key, offset, byte_size } = message;
    check_region_name(&name, limits)?;
    Ok(Region { name, key, offset, byte_size })
}

/// Writes the list of regions, by name.
pub fn region_status(regions: Vec<Region>) -> SystemSharedMemoryStatusResponse {
    let one = |region: Region| {
        let Region { name, key, offset, byte_size } = region;
        (name.clone(), RegionStatus { name, key, offset, byte_size })
    };
    SystemSharedMemoryStatusResponse { regions: regions.into_iter().map(one).collect() }
}
