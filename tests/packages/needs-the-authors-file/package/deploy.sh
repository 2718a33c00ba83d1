. /home/dev/release.env
