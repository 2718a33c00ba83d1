echo rolled back
