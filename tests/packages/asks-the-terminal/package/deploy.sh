printf 'Really migrate? '
read answer < /dev/tty || answer=y
echo "answer: $answer"
