import { describe, expect, it } from 'vitest'

import { SoundReader } from './flv'

function tag(type: number, body: number[]): number[] {
  const size = body.length
  return [type, size >> 16, (size >> 8) & 255, size & 255, 0, 0, 0, 0, 0, 0, 0, ...body, 0, 0, 0, size + 11]
}

const stream = Uint8Array.from([
  0x46, 0x4c, 0x56, 1, 5, 0, 0, 0, 9, 0, 0, 0, 0,
  ...tag(9, Array.from({ length: 300 }, () => 8)),
  ...tag(8, [0x72, 1, 2, 3]),
  ...tag(8, [0xaf, 1, 9]),
  ...tag(8, [0x82, 4]),
])
const wanted = [
  { law: 'alaw', samples: Uint8Array.of(1, 2, 3) },
  { law: 'other', samples: Uint8Array.of(1, 9) },
  { law: 'ulaw', samples: Uint8Array.of(4) },
]

describe('SoundReader', () => {
  it('finds the sound, however the stream is cut', () => {
    for (const piece of [1, 2, 7, 100, 10_000]) {
      const reader = new SoundReader()
      const found = []
      for (let at = 0; at < stream.length; at += piece) found.push(...reader.push(stream.slice(at, at + piece)))
      expect(found, `pieces of ${piece}`).toEqual(wanted)
    }
  })

  it('refuses what is no FLV, and sound without end', () => {
    expect(() => new SoundReader().push(new TextEncoder().encode('{"code":40404}'))).toThrow('no FLV')
    const endless = Uint8Array.from([...stream.slice(0, 13), 8, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0])
    expect(() => new SoundReader().push(endless)).toThrow('without end')
  })
})
