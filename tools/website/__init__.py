"""The pages of the site: how they are laid out (stage), made (conf) and look (static)."""
