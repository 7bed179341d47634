import { describe, expect, it } from 'vitest'

import type { Service } from '../api/types'
import { contractLink, isCallable, isExternalCode } from './rows'

function service(changes: Partial<Service>): Service {
  return { granted: true, state: 'running', contract: '', ...changes } as Service
}

describe('isCallable', () => {
  it('needs the permission and a service that runs', () => {
    expect(isCallable(service({}))).toBe(true)
    expect(isCallable(service({ state: 'degraded' }))).toBe(true)
    expect(isCallable(service({ state: 'not-built' }))).toBe(false)
    expect(isCallable(service({ state: 'withdrawn' }))).toBe(false)
    expect(isCallable(service({ granted: false }))).toBe(false)
  })
})

describe('contractLink', () => {
  it('follows our own document and the web, and nothing that runs', () => {
    expect(contractLink(service({ contract: '/openapi.json#/paths/x' }))).toBe('/openapi.json#/paths/x')
    expect(contractLink(service({ contract: 'https://a.example/api' }))).toBe('https://a.example/api')
    for (const contract of ['javascript:alert(1)', '//evil.example', 'data:text/html,x', '']) {
      expect(contractLink(service({ contract }))).toBeNull()
    }
  })
})

describe('isExternalCode', () => {
  it('is what the platform takes', () => {
    expect(isExternalCode('ext-weather.v1')).toBe(true)
    for (const code of ['ext-', 'weather', 'ext-天气', `ext-${'a'.repeat(61)}`]) expect(isExternalCode(code)).toBe(false)
  })
})
