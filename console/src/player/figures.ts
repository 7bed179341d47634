// What was measured of a running picture, as a person reads it.

import type { SessionQuality } from '../api/types'

export type FigureName = 'bitrateKbps' | 'frameRate' | 'lossRate' | 'jitterMs' | 'delayMs'

export interface Figure {
  name: FigureName
  text: string
}

/** The figures in the order in which they are shown; what is not known is a dash, never a nought. */
export function figures(quality: SessionQuality): Figure[] {
  return [
    { name: 'bitrateKbps', text: rate(quality.bitrateKbps) },
    { name: 'frameRate', text: unit(quality.frameRate, 'fps', 1) },
    { name: 'lossRate', text: quality.lossRate === null ? '—' : percent(quality.lossRate) },
    { name: 'jitterMs', text: unit(quality.jitterMs, 'ms', 1) },
    { name: 'delayMs', text: unit(quality.delayMs, 'ms', 1) },
  ]
}

function rate(kbps: number | null): string {
  if (kbps === null) return '—'
  return kbps < 1000 ? `${Math.round(kbps)} kbit/s` : `${(kbps / 1000).toFixed(1)} Mbit/s`
}

/** A loss that is not nought must not be shown as nought. */
function percent(part: number): string {
  if (part > 0 && part < 0.0001) return '< 0.01 %'
  return `${(part * 100).toFixed(2)} %`
}

function unit(value: number | null, name: string, digits: number): string {
  return value === null ? '—' : `${value.toFixed(digits)} ${name}`
}
