// The sound in an FLV stream as it comes in; pictures are passed over without being kept.

import type { Law } from './g711'

export interface Sound {
  /** ``other`` is sound that is no G.711. */
  law: Law | 'other'
  samples: Uint8Array
}

const FILE_HEAD = 9
const TAG_HEAD = 11
const BACK = 4 // the size of the tag before, after each
const AUDIO = 8
const LAWS: Record<number, Law> = { 7: 'alaw', 8: 'ulaw' }
/** A tag of sound is some hundred bytes; more than this is no sound of ours. */
const MOST_SOUND = 64 * 1024

/** Takes the bytes of one FLV stream in any pieces. Raises Error when they are no FLV. */
export class SoundReader {
  private held = new Uint8Array(0)
  private skip = 0
  private hasBegun = false

  push(bytes: Uint8Array): Sound[] {
    const found: Sound[] = []
    let rest = this.joined(bytes)
    for (;;) {
      const passed = Math.min(this.skip, rest.length)
      rest = rest.subarray(passed)
      this.skip -= passed
      if (this.skip > 0 || !this.begin(rest)) break
      if (this.skip > 0) continue
      if (rest.length < TAG_HEAD) break
      const size = ((rest[1] ?? 0) << 16) | ((rest[2] ?? 0) << 8) | (rest[3] ?? 0)
      if (rest[0] !== AUDIO) {
        this.skip = TAG_HEAD + size + BACK
        continue
      }
      if (size > MOST_SOUND) throw new Error('FLV: a tag of sound without end')
      if (rest.length < TAG_HEAD + size + BACK) break
      if (size > 1) found.push(soundOf(rest.subarray(TAG_HEAD, TAG_HEAD + size)))
      rest = rest.subarray(TAG_HEAD + size + BACK)
    }
    this.held = rest.slice()
    return found
  }

  private joined(bytes: Uint8Array): Uint8Array {
    if (this.held.length === 0) return bytes
    const all = new Uint8Array(this.held.length + bytes.length)
    all.set(this.held)
    all.set(bytes, this.held.length)
    return all
  }

  /** The head of the file, once; false while it is not there yet. */
  private begin(rest: Uint8Array): boolean {
    if (this.hasBegun) return true
    if (rest.length < FILE_HEAD) return false
    if (rest[0] !== 0x46 || rest[1] !== 0x4c || rest[2] !== 0x56) throw new Error('no FLV')
    this.skip = FILE_HEAD + BACK
    this.hasBegun = true
    return true
  }
}

function soundOf(body: Uint8Array): Sound {
  return { law: LAWS[(body[0] ?? 0) >> 4] ?? 'other', samples: body.slice(1) }
}
