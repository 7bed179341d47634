import { describe, expect, it } from 'vitest'

import zh from '../locales/voice.zh'
import { TROUBLES, troubleOf } from './microphone'

describe('troubleOf', () => {
  it('tells a refusal from a missing and a taken microphone', () => {
    const named = (name: string) => troubleOf(Object.assign(new Error(), { name }))
    expect(['NotAllowedError', 'NotFoundError', 'NotReadableError', 'TypeError'].map(named)).toEqual(['denied', 'absent', 'busy', 'broken'])
    expect(troubleOf(null)).toBe('broken')
  })

  it('has words for each', () => {
    for (const trouble of TROUBLES) expect(zh.troubles[trouble]).toBeTruthy()
  })
})
