import { describe, expect, it } from 'vitest'

import { sizeText } from './size'

describe('sizeText', () => {
  it('says bytes in the largest unit that fits', () => {
    expect([0, 1023, 1024, 1536, 150 * 2 ** 20, 5 * 2 ** 30, 3 * 2 ** 50].map(sizeText)).toEqual([
      '0 B', '1023 B', '1 KiB', '1.5 KiB', '150 MiB', '5 GiB', '3072 TiB',
    ])
  })
})
