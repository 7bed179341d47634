import { reactive } from 'vue'

import { ApiError, call, useCsrfToken, whenExpired } from './api/client'
import type { PlatformInfo, SessionInfo } from './api/types'

interface State {
  user: SessionInfo | null
  platform: PlatformInfo | null
  expired: boolean
}

const state = reactive<State>({ user: null, platform: null, expired: false })
let asked: Promise<boolean> | null = null

function accept(info: SessionInfo): void {
  state.user = info
  state.expired = false
  useCsrfToken(info.csrfToken)
}

async function ask(): Promise<boolean> {
  try {
    accept(await call<SessionInfo>('GET', '/api/v1/session'))
    return true
  } catch {
    return false
  }
}

whenExpired(() => {
  if (state.user !== null) state.expired = true
  state.user = null
  asked = null
})

/** Who is signed in, as the platform says; the cookie itself is not readable here. */
export const session = {
  state,
  /** Whether the platform lets this person do that; it decides again on every call. */
  may(permission: string): boolean {
    return state.user?.permissions.includes(permission) ?? false
  },
  async known(): Promise<boolean> {
    if (state.user !== null) return true
    asked ??= ask()
    const known = await asked
    if (!known) asked = null
    return known
  },
  async signIn(user: string, password: string): Promise<void> {
    accept(await call<SessionInfo>('POST', '/api/v1/session', { user, password }))
  },
  async setUp(code: string, user: string, password: string): Promise<void> {
    await call('POST', '/api/v1/setup', { code, user, password })
    await session.signIn(user, password)
  },
  async signOut(): Promise<void> {
    try {
      await call('DELETE', '/api/v1/session')
    } catch (error) {
      if (!(error instanceof ApiError)) throw error
    }
    state.user = null
    asked = null
  },
  async loadPlatform(): Promise<PlatformInfo | null> {
    state.platform ??= await call<PlatformInfo>('GET', '/api/v1/info').catch(() => null)
    return state.platform
  },
}
