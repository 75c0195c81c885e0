// Helpers for the page's elements and the browser's storage and downloads.

export const $ = (id) => document.getElementById(id);
export const STORED = "pvt-studio"; // prefix of keys in the browser's storage

export function save(content, name, type) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(new Blob([content], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
