/** One look at how far two platforms stand apart. ``at`` is the browser's milliseconds. */
export interface Sample {
  at: number
  lag: number
  equal: boolean
}

/** Kept in the page only: what is older than this is forgotten. */
export const KEPT_MS = 5 * 60_000
// Narrower than this the line does not become, or two looks would already fill it.
const LEAST_SPAN_MS = 60_000
const MOST_SAMPLES = 300

/** The samples with one more, the old ones dropped. */
export function added(samples: readonly Sample[], sample: Sample): Sample[] {
  const kept = samples.filter((one) => sample.at - one.at <= KEPT_MS && one.at < sample.at)
  return [...kept, sample].slice(-MOST_SAMPLES)
}

/**
 * The lag as a line of steps inside width x height, newest at the right edge; empty below two samples.
 *
 * The width stands for what was seen, at least a minute. The height stands for at least four changes, so that
 * one change does not look like a disaster.
 */
export function line(samples: readonly Sample[], width: number, height: number): string {
  const last = samples.at(-1)
  const first = samples[0]
  if (first === undefined || last === undefined || samples.length < 2) return ''
  const span = Math.max(LEAST_SPAN_MS, last.at - first.at)
  const most = Math.max(4, ...samples.map((one) => one.lag))
  const x = (at: number): number => round(width - ((last.at - at) / span) * width)
  const y = (lag: number): number => round(height - (lag / most) * height)
  return samples.map((one, i) => (i === 0 ? `M${x(one.at)},${y(one.lag)}` : `H${x(one.at)}V${y(one.lag)}`)).join('')
}

/** Seconds since both last were equal; 0 while they are, null when that was never seen. */
export function apartSeconds(samples: readonly Sample[]): number | null {
  const last = samples.at(-1)
  if (last === undefined) return null
  if (last.equal) return 0
  const before = samples.findLast((one) => one.equal)
  return before === undefined ? null : Math.round((last.at - before.at) / 1000)
}

function round(value: number): number {
  return Math.round(value * 10) / 10
}
