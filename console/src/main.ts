import {
  ElAlert, ElButton, ElConfigProvider, ElDialog, ElDrawer, ElInput, ElLoading, ElPagination, ElProgress, ElRadio, ElSelect,
  ElSlider, ElTable, ElTag, ElTree,
} from 'element-plus'
import 'element-plus/dist/index.css'
import { createApp } from 'vue'

import App from './App.vue'
import { i18n } from './i18n'
import { router } from './router'
import './style.css'

const app = createApp(App).use(i18n).use(router)
// Only what the pages use: the whole kit would double what an operator's browser loads.
// ElRadio, ElSelect and ElTable bring their groups, options and columns.
const parts = [
  ElAlert, ElButton, ElConfigProvider, ElDialog, ElDrawer, ElInput, ElLoading, ElPagination, ElProgress, ElRadio, ElSelect,
  ElSlider, ElTable, ElTag, ElTree,
]
for (const part of parts) app.use(part)
app.mount('#app')
