// From a microphone's rate to that of G.711: what 8 kHz cannot carry is taken out first, else it would be heard
// as noise of another pitch.

const LOBES = 12

/** A stream of samples at a lower rate, by a windowed sinc; about a millisecond and a half late. */
export class Downsampler {
  private readonly ratio: number
  private readonly half: number
  private held: Float32Array
  private at: number

  /** Args: rates in Hz, ``fromHz`` not below ``toHz``. */
  constructor(fromHz: number, toHz: number) {
    this.ratio = fromHz / toHz
    this.half = Math.ceil(LOBES * this.ratio)
    this.held = new Float32Array(this.half)
    this.at = this.half
  }

  /** The samples that are complete with these. */
  push(samples: Float32Array): Float32Array {
    const all = new Float32Array(this.held.length + samples.length)
    all.set(this.held)
    all.set(samples, this.held.length)
    const out: number[] = []
    while (this.at + this.half < all.length) {
      out.push(this.sample(all))
      this.at += this.ratio
    }
    const keep = Math.max(0, Math.floor(this.at) - this.half)
    this.held = all.slice(keep)
    this.at -= keep
    return Float32Array.from(out)
  }

  private sample(all: Float32Array): number {
    const first = Math.ceil(this.at - this.half)
    let sum = 0
    let weights = 0
    for (let index = Math.max(0, first); index <= this.at + this.half && index < all.length; index += 1) {
      const offset = (index - this.at) / this.ratio
      const window = 0.5 + 0.5 * Math.cos((Math.PI * offset) / LOBES)
      // 0.9: the filter falls before half of the lower rate, not at it.
      const weight = window * sinc(0.9 * offset)
      sum += weight * (all[index] ?? 0)
      weights += weight
    }
    return weights === 0 ? 0 : sum / weights
  }
}

function sinc(x: number): number {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x)
}
