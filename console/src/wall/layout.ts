// What hangs on the wall: how many cells, which camera in which, and how it is kept in this browser.

export const SIZES = [1, 4, 9, 16] as const
export type Size = (typeof SIZES)[number]
export const STREAMS = ['auto', 'main', 'sub'] as const
export type StreamWish = (typeof STREAMS)[number]

export interface Cell {
  deviceId: string
  stream: StreamWish
}

/** ``cells`` are always as many as the largest wall has: a smaller one hides the rest and forgets nothing. */
export interface Layout {
  size: Size
  cells: (Cell | null)[]
}

const MOST = SIZES[SIZES.length - 1] as number
const CODE = /^[0-9]{20}$/
/** From this size on a picture is small enough for the sub-stream. */
const SUB_FROM: Size = 9
// Types of GB/T 28181-2022 Annex E that have a picture of their own: analogue and network cameras.
const CAMERA_TYPES = ['131', '132']

export function empty(size: Size = 9): Layout {
  return { size, cells: Array.from({ length: MOST }, () => null) }
}

/** A layout as it was kept; whatever is no layout becomes an empty wall. */
export function read(text: string | null): Layout {
  let told: unknown = null
  try {
    told = JSON.parse(text ?? 'null')
  } catch {
    return empty()
  }
  if (typeof told !== 'object' || told === null) return empty()
  const { size, cells } = told as { size?: unknown; cells?: unknown }
  const found = empty(SIZES.find((one) => one === size) ?? 9)
  if (Array.isArray(cells)) found.cells = found.cells.map((_, index) => cellOf(cells[index]))
  return found
}

function cellOf(told: unknown): Cell | null {
  if (typeof told !== 'object' || told === null) return null
  const { deviceId, stream } = told as { deviceId?: unknown; stream?: unknown }
  if (typeof deviceId !== 'string' || !CODE.test(deviceId)) return null
  return { deviceId, stream: STREAMS.find((one) => one === stream) ?? 'auto' }
}

/** The cells that are seen. */
export function shown(layout: Layout): (Cell | null)[] {
  return layout.cells.slice(0, layout.size)
}

/** Hang a camera into a cell; one that hangs elsewhere changes places with what was there. */
export function put(layout: Layout, index: number, deviceId: string): Layout {
  if (!CODE.test(deviceId) || index < 0 || index >= layout.size) return layout
  const cells = [...layout.cells]
  const before = shown(layout).findIndex((cell) => cell?.deviceId === deviceId)
  if (before === index) return layout
  const moved = before < 0 ? null : (cells[before] ?? null)
  if (before >= 0) cells[before] = cells[index] ?? null
  cells[index] = moved ?? { deviceId, stream: 'auto' }
  return { ...layout, cells }
}

/** Take a camera down. */
export function take(layout: Layout, index: number): Layout {
  return { ...layout, cells: layout.cells.map((cell, at) => (at === index ? null : cell)) }
}

/** Hang these cameras, in this order, as many as there are cells; the others are taken down. */
export function fill(layout: Layout, deviceIds: readonly string[]): Layout {
  const chosen = [...new Set(deviceIds.filter((one) => CODE.test(one)))].slice(0, layout.size)
  const cells = layout.cells.map((_, index) => {
    const deviceId = chosen[index]
    return deviceId === undefined ? null : { deviceId, stream: 'auto' as const }
  })
  return { ...layout, cells }
}

/** Where the next camera goes: the chosen cell when it is free, else the first free one, else the chosen one. */
export function place(layout: Layout, chosen: number): number {
  if (chosen < layout.size && layout.cells[chosen] === null) return chosen
  const free = shown(layout).indexOf(null)
  if (free >= 0) return free
  return chosen < layout.size ? chosen : 0
}

/** Choose main or sub-stream for one cell. */
export function choose(layout: Layout, index: number, stream: StreamWish): Layout {
  return { ...layout, cells: layout.cells.map((cell, at) => (at === index && cell !== null ? { ...cell, stream } : cell)) }
}

/** Whether a camera says that it has a sub-stream (StreamNumberList, GB/T 28181-2022 A.2.1.9). */
export function hasSub(streamNumbers: string | null | undefined): boolean {
  return (streamNumbers ?? '').split('/').includes('1')
}

/** The stream to ask for: what was wished, where the camera has it; small pictures take the sub-stream. */
export function streamOf(wish: StreamWish, size: Size, streamNumbers: string | null | undefined): 0 | 1 {
  if (!hasSub(streamNumbers) || wish === 'main') return 0
  return wish === 'sub' || size >= SUB_FROM ? 1 : 0
}

/** Of what a search or a branch found, what has a picture: online first. */
export function pictured(devices: readonly { DeviceID: string; Status?: string | null }[]): string[] {
  const cameras = devices.filter((one) => CAMERA_TYPES.includes(one.DeviceID.slice(10, 13)))
  const order = (one: { Status?: string | null }): number => (one.Status === 'ON' ? 0 : 1)
  return [...cameras].sort((a, b) => order(a) - order(b)).map((one) => one.DeviceID)
}
