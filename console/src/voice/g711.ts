// G.711: one byte a sample, 8 kHz (ITU-T G.711).

export const RATE_HZ = 8000
export type Law = 'alaw' | 'ulaw'

/** One linear sample of 16 bits as A-law. */
export function encodeAlaw(sample: number): number {
  let pcm = sample >> 3
  let mask = 0xd5
  if (pcm < 0) {
    mask = 0x55
    pcm = -pcm - 1
  }
  let segment = 0
  while (segment < 8 && pcm > (0x20 << segment) - 1) segment += 1
  if (segment === 8) return 0x7f ^ mask
  return ((segment << 4) | ((segment < 2 ? pcm >> 1 : pcm >> segment) & 0x0f)) ^ mask
}

function decodeAlaw(code: number): number {
  const bits = code ^ 0x55
  const segment = (bits & 0x70) >> 4
  const size = ((bits & 0x0f) << 4) + (segment === 0 ? 8 : 0x108)
  const sample = segment > 1 ? size << (segment - 1) : size
  return bits & 0x80 ? sample : -sample
}

function decodeUlaw(code: number): number {
  const bits = ~code & 0xff
  const sample = (((bits & 0x0f) << 3) + 0x84) << ((bits & 0x70) >> 4)
  return bits & 0x80 ? 0x84 - sample : sample - 0x84
}

const TABLES: Record<Law, Float32Array> = {
  alaw: Float32Array.from({ length: 256 }, (_, code) => decodeAlaw(code) / 32_768),
  ulaw: Float32Array.from({ length: 256 }, (_, code) => decodeUlaw(code) / 32_768),
}

/** Samples between -1 and 1 as A-law. */
export function toAlaw(samples: Float32Array): Uint8Array<ArrayBuffer> {
  const coded = new Uint8Array(samples.length)
  samples.forEach((sample, index) => {
    coded[index] = encodeAlaw(Math.round(Math.max(-1, Math.min(1, sample)) * 32_767))
  })
  return coded
}

/** G.711 as samples between -1 and 1. */
export function toLinear(coded: Uint8Array, law: Law): Float32Array<ArrayBuffer> {
  const table = TABLES[law]
  const samples = new Float32Array(coded.length)
  coded.forEach((code, index) => {
    samples[index] = table[code] ?? 0
  })
  return samples
}

/** How loud samples are, 0 to 1: silence below -60 dB, full scale 1. */
export function loudness(samples: Float32Array): number {
  if (samples.length === 0) return 0
  const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length
  return power <= 1e-6 ? 0 : Math.min(1, 1 + (10 * Math.log10(power)) / 60)
}
