// @ts-check
// The one place that knows where the view library lies and which version it is.
export {
  createContext, html, render, useCallback, useContext, useEffect, useLayoutEffect, useMemo, useReducer, useRef, useState,
} from "./vendor/htm-preact-3.1.1.module.js";
