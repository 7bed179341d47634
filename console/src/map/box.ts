// A rectangle on the map, in degrees of WGS 84, as drawn, as asked and as an address says it.

export interface Box {
  minLon: number
  minLat: number
  maxLon: number
  maxLat: number
}

type Corner = [lon: number, lat: number]

/** Six digits are a tenth of a metre. */
function rounded(value: number, most: number): number {
  return Math.min(most, Math.max(-most, Math.round(value * 1e6) / 1e6))
}

/** The rectangle between two corners, whichever was drawn first. */
export function between(a: Corner, b: Corner): Box {
  return {
    minLon: rounded(Math.min(a[0], b[0]), 180),
    minLat: rounded(Math.min(a[1], b[1]), 90),
    maxLon: rounded(Math.max(a[0], b[0]), 180),
    maxLat: rounded(Math.max(a[1], b[1]), 90),
  }
}

/** Whether a rectangle holds more than a line. */
export function hasArea(box: Box): boolean {
  return box.maxLon > box.minLon && box.maxLat > box.minLat
}

export function textOf(box: Box): string {
  return [box.minLon, box.minLat, box.maxLon, box.maxLat].join(',')
}

/** The rectangle that an address names; null when it names none. */
export function boxOf(text: string): Box | null {
  const parts = text.split(',')
  const numbers = parts.map(Number)
  if (numbers.length !== 4 || parts.some((part) => part.trim() === '') || !numbers.every(Number.isFinite)) return null
  const [west, south, east, north] = numbers as [number, number, number, number]
  const box = between([west, south], [east, north])
  return hasArea(box) ? box : null
}

/** What holds all of these points, with a margin so that none sits on the edge; null without points. */
export function around(points: readonly Corner[], margin = 0.02): Box | null {
  if (points.length === 0) return null
  const lons = points.map((point) => point[0])
  const lats = points.map((point) => point[1])
  return between([Math.min(...lons) - margin, Math.min(...lats) - margin], [Math.max(...lons) + margin, Math.max(...lats) + margin])
}

/** A closed ring for drawing. */
export function ring(box: Box): Corner[] {
  const { minLon: w, minLat: s, maxLon: e, maxLat: n } = box
  return [[w, s], [e, s], [e, n], [w, n], [w, s]]
}
