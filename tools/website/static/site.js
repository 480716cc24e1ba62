// What the theme leaves out for screen readers and for keyboards.
const each = (selector, change) => document.querySelectorAll(selector).forEach(change);

function mend() {
  each('details.hide > summary', (summary) => summary.removeAttribute('aria-label'));
  each('nav summary', (summary) => {
    const link = summary.closest('li')?.querySelector('a');
    if (link) summary.setAttribute('aria-label', `Pages of ${link.innerText.trim()}`);
  });
  each('thead th', (head) => {
    if (head.innerText.trim()) head.setAttribute('scope', 'col');
    else head.replaceWith(document.createElement('td')); // the corner of a table
  });
  each('.search-button, .search-button__button', (button) => {
    const words = button.innerText.trim();
    if (words) button.setAttribute('aria-label', words);
  });
  const brand = document.querySelector('.sidebar-primary-item:has(.navbar-brand)');
  brand?.setAttribute('role', 'region');
  brand?.setAttribute('aria-label', 'Title');
  reach();
}

// What scrolls sideways can be reached by the keyboard.
function reach() {
  each('pre, mjx-container[display="true"], .pst-scrollable-table-container, .output.text_html', (box) => {
    if (box.scrollWidth > box.clientWidth) box.setAttribute('tabindex', '0');
    else box.removeAttribute('tabindex');
  });
}

addEventListener('load', () => {
  mend();
  window.MathJax?.startup?.promise?.then(reach);
});
addEventListener('resize', reach);
