import { call, query } from '../api/client'
import type { DeviceLite, RegionPage, TreeKind, TreeLevel } from '../api/types'

/** One page of the devices of a branch, and where the next begins; "" at the end. */
export interface BranchPage {
  devices: DeviceLite[]
  next: string
}

/** Divisions hold what lies in them; a group or a platform holds what names it as its parent. */
export async function branchPage(kind: TreeKind, branch: string, after: string, size: number): Promise<BranchPage> {
  if (kind === 'division') {
    const body = { civilCodes: [branch], pageSize: size, cursor: after }
    const found = await call<RegionPage>('POST', '/api/v1/archive/regions/devices', body)
    return { devices: found.list, next: found.nextCursor }
  }
  const asking = query({ parent: branch, after, limit: size })
  const found = await call<TreeLevel>('GET', `/api/v1/archive/trees/${kind}${asking}`)
  return { devices: found.devices, next: found.nextAfter }
}
