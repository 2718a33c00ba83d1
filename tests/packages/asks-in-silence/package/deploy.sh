read answer || true
echo gone on
